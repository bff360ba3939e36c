use super::super::super::testing::Pickler;
use super::*;

fn problem(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().into()
}

/// The members of the list or tuple that a pickle is of.
fn members(bytes: &[u8]) -> Vec<String> {
    let pickle = read(bytes).unwrap();
    let Some(Object::List(items) | Object::Tuple(items)) = pickle.object(pickle.root()) else {
        panic!("{:?}", pickle.root())
    };
    let shown = |value: &Value| match (value, pickle.object(*value)) {
        (_, Some(Object::Text(text))) => format!("{text:?}"),
        (_, Some(object)) => format!("{object:?}"),
        (Value::Int(value), _) => value.to_string(),
        _ => "-".to_owned(),
    };
    items.iter().map(shown).collect()
}

#[test]
fn numbers_and_texts_of_all_protocols_are_read() {
    let mut all = b"\x80\x05\x95\x00\x00\x00\x00\x00\x00\x00\x00(".to_vec();
    all.extend(b"I-7\nI01\nL12L\nF1.5\nS'x'\nVyes\n"); // protocol 0
    all.extend(b"J\xff\xff\xff\xffK\xffM\xff\xffG\x00\x00\x00\x00\x00\x00\x00\x00N"); // 1
    all.extend(b"U\x01aX\x01\x00\x00\x00b\x88\x89\x8a\x01\xff\x8a\x00\x8a\x02\x00\x01"); // 2
    all.extend(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01C\x01z"); // 2 and 3
    all.extend(b"\x8c\x01c\x8d\x01\x00\x00\x00\x00\x00\x00\x00d\x8f"); // 4
    all.extend(b"\x96\x01\x00\x00\x00\x00\x00\x00\x00zl."); // 5
    let expected = [
        "-7", "1", "12", "-", "-", "\"yes\"", "-1", "255", "65535", "-", "-", "\"a\"", "\"b\"", "-", "-",
        "-1", "0", "256", "-", "-", "\"c\"", "\"d\"", "-", "-",
    ];
    assert_eq!(members(&all), expected);
}

#[test]
fn containers_are_filled_and_shared() {
    // d = {'a': 1, 'b': d}; the list is [d, d] with a member appended later.
    let p = Pickler::new().raw(b"]q\x05}q\x06(").text("a").int(1).text("b").raw(b"h\x06ua");
    let bytes = p.raw(b"h\x06a(K\x01K\x02e").stop();
    let pickle = read(&bytes).unwrap();
    let Some(Object::List(items)) = pickle.object(pickle.root()) else { panic!("no list") };
    assert_eq!(items[0], items[1]);
    assert_eq!(items[2..], [Value::Int(1), Value::Int(2)]);
    let dict = pickle.dict(items[0]).unwrap();
    assert_eq!((pickle.text(dict[0].0), dict[0].1), (Some("a"), Value::Int(1)));
    assert_eq!(dict[1].1, items[0]);
    // An OrderedDict as Python 2 wrote it, from a list of pairs.
    let p = Pickler::new().global("collections", "OrderedDict").raw(b"](").text("k").int(3);
    let bytes = p.raw(b"\x86e\x85R").stop();
    let pickle = read(&bytes).unwrap();
    let (key, value) = pickle.dict(pickle.root()).unwrap()[0];
    assert_eq!((pickle.text(key), value), (Some("k"), Value::Int(3)));
}

/// Whatever a pickle calls, nothing is called: the result of an unknown function is a value that nothing can be done with.
#[test]
fn calls_become_opaque() {
    let bytes = Pickler::new().global("lavt.config", "Config").raw(b"(").text("a").raw(b"tR").stop();
    let pickle = read(&bytes).unwrap();
    assert!(matches!(pickle.object(pickle.root()), Some(Object::Opaque("lavt.config", "Config"))));
}

/// A call that no checkpoint needs is told, however it is written.
#[test]
fn calls_of_an_attack_are_refused() {
    let marker = tempfile::tempdir().unwrap();
    let file = marker.path().join("ran");
    let command = format!("touch {}", file.display());
    let arguments = |p: Pickler| p.raw(b"(").text(&command).raw(b"t");
    let system = |p: Pickler| p.global("posix", "system");
    let ways: [(&str, Vec<u8>); 7] = [
        ("reduce", arguments(system(Pickler::new())).raw(b"R").stop()),
        ("new object", arguments(system(Pickler::new())).raw(b"\x81").stop()),
        ("new object with names", arguments(system(Pickler::new())).raw(b"}\x92").stop()),
        ("object", system(Pickler::new().raw(b"(")).text(&command).raw(b"o").stop()),
        ("instance", Pickler::new().raw(b"(").text(&command).raw(b"iposix\nsystem\n").stop()),
        (
            "named on the stack",
            arguments(Pickler::new().text("posix").text("system").raw(b"\x93")).raw(b"R").stop(),
        ),
        (
            "given to another function",
            system(Pickler::new().global("functools", "partial").raw(b"(")).text(&command).raw(b"tR").stop(),
        ),
    ];
    for (way, bytes) in ways {
        let problem = read(&bytes).unwrap_err();
        assert!(matches!(&problem, Problem::Harmful(name) if name == "posix.system"), "{way}: {problem:?}");
    }
    assert!(!file.exists());
    // To name it is not to call it.
    assert!(read(&system(Pickler::new()).stop()).is_ok());
}

#[test]
fn state_of_opaque_objects_is_dropped() {
    let bytes =
        Pickler::new().global("argparse", "Namespace").raw(b")\x81}").text("lr").int(1).raw(b"sb").stop();
    let pickle = read(&bytes).unwrap();
    assert!(matches!(pickle.object(pickle.root()), Some(Object::Opaque("argparse", "Namespace"))));
}

#[test]
fn broken_pickles_are_refused_with_their_place() {
    let cases: [(&[u8], &str); 16] = [
        (b"", "byte 0: it ends too early"),
        (b"\x80\x02", "byte 2: it ends too early"),
        (b"\x80\x06.", "protocol 6"),
        (b"\x80\x02.", "takes a value that is not there"),
        (b"0.", "takes a value"),
        (b"t.", "takes a value"),
        (b"K\x01(R.", "takes a value"),
        (b"\xff.", "0xff is no pickle opcode"),
        (b"X\xff\xff\xff\xffabc.", "an operand of 4294967295 bytes, 4 are left"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "18446744073709551615 bytes"),
        (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"cposix", "a line without an end"),
        (b"h\x07.", "no value was kept under 7"),
        (b"}(K\x01u.", "a key without a value"),
        (b"K\x01Q.", "no storage"),
        (b"\x97.", "buffers outside"),
    ];
    for (bytes, part) in cases {
        let problem = problem(bytes);
        assert!(problem.contains(part), "{bytes:?}: {problem}");
    }
}

/// Each level refers twice to the one below: 2^100 leaves for whoever unfolds it, 300 bytes here.
#[test]
fn doubling_and_deep_pickles_cost_their_bytes() {
    let mut bytes = b"\x80\x02)".to_vec();
    for _ in 0..100 {
        bytes.extend(b"2\x86");
    }
    bytes.push(b'.');
    assert_eq!(read(&bytes).unwrap().objects.len(), 101);
    // A million lists, each in the next.
    let mut bytes = vec![b')'];
    bytes.extend(std::iter::repeat_n(b'\x85', 1_000_000));
    bytes.push(b'.');
    drop(read(&bytes).unwrap());
    // A list in itself.
    let looped = read(b"\x80\x02]q\0h\0a.").unwrap();
    assert_eq!(looped.objects.len(), 1);
}

#[test]
fn endless_stacks_and_memos_are_refused() {
    for (code, part) in [(b'N', "values on its stack"), (b'(', "marks")] {
        let bytes = vec![code; MAX_STACK + 1];
        assert!(problem(&bytes).contains(part), "{part}");
    }
    let many = b")0".repeat(MAX_OBJECTS + 1);
    assert!(problem(&many).contains("objects"));
    // A list of a million members, taken over again and again.
    let mut bytes = b"ccollections\nOrderedDict\nq\x00](".to_vec();
    for _ in 0..1000 {
        bytes.extend(b"N2\x86");
    }
    bytes.extend(b"e\x85q\x01");
    for _ in 0..10_000 {
        bytes.extend(b"h\x00h\x01R0");
    }
    assert!(problem(&bytes).contains("members"));
}

/// Damage to a real pickle is an error or another value, never a panic; likewise bytes that are no pickle at all.
#[test]
fn no_damage_panics() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/lavt_one_tiny/two_dicts.pkl");
    let real = std::fs::read(path).unwrap();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..300 {
        let mut damaged = real.clone();
        for _ in 0..=random(4) {
            damaged[random(real.len())] = random(256) as u8;
        }
        let _ = read(&damaged);
        let noise: Vec<u8> = (0..200).map(|_| random(256) as u8).collect();
        let _ = read(&noise);
        let opcodes: Vec<u8> =
            (0..200).map(|_| b"(012NK]}).tlaeudRbohqQ\x85\x86\x87\x94"[random(26)]).collect();
        let _ = read(&opcodes);
    }
}
