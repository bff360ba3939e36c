//! Functions that a checkpoint has no reason to call: those that run code, start programs, or reach files and networks.
//!
//! Nothing in a pickle is run here, whatever it names. A file that asks for one of these was made to run it on someone
//! who loads it with Python, so it is not opened as if it were like any other. Classes that are not known (the objects of
//! a configuration) do not count.

/// Modules all of whose functions are meant.
const MODULES: [&str; 24] = [
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "bdb",
    "code",
    "codeop",
    "ctypes",
    "importlib",
    "marshal",
    "nt",
    "os",
    "os.path",
    "pdb",
    "pickle",
    "pip",
    "popen2",
    "posix",
    "pty",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "webbrowser",
];
/// What these hold that is only data.
const DATA: [(&str, &str); 3] = [("os", "_Environ"), ("os", "stat_result"), ("os", "PathLike")];

/// Single functions.
const FUNCTIONS: [(&str, &[&str]); 17] = [
    ("builtins", BUILTINS),
    ("__builtin__", BUILTINS),
    ("_ctypes", &["dlopen", "CDLL"]),
    ("_io", &["open", "open_code", "FileIO"]),
    ("_operator", &["attrgetter", "methodcaller"]),
    ("importlib._bootstrap", &["_load", "__import__"]),
    ("io", &["open", "open_code", "FileIO"]),
    ("numpy", &["load", "fromfile", "save"]),
    ("numpy.f2py.crackfortran", &["myeval", "getlincoef"]),
    ("numpy.testing._private.utils", &["runstring"]),
    ("operator", &["attrgetter", "methodcaller"]),
    ("timeit", &["timeit", "repeat", "main"]),
    ("torch", &["load"]),
    ("torch.hub", &["load", "load_state_dict_from_url", "download_url_to_file"]),
    ("torch.serialization", &["load", "_load"]),
    ("types", &["CodeType", "FunctionType", "LambdaType", "MethodType", "ModuleType"]),
    ("urllib.request", &["urlopen", "urlretrieve"]),
];

const BUILTINS: &[&str] = &[
    "__import__",
    "apply",
    "breakpoint",
    "compile",
    "delattr",
    "eval",
    "exec",
    "execfile",
    "exit",
    "file",
    "getattr",
    "globals",
    "input",
    "locals",
    "open",
    "quit",
    "raw_input",
    "setattr",
    "vars",
];

/// Whether this function, by module and name, runs what a pickle wants. A dotted name is followed as Python does:
/// `os.system` of any module is that of `os`.
pub(super) fn runs(module: &str, name: &str) -> bool {
    if DATA.contains(&(module, name)) {
        return false;
    }
    if MODULES.contains(&module) {
        return true;
    }
    let inner = name.rsplit_once('.').map(|(path, _)| path);
    let through = inner.is_some_and(|path| {
        path.split('.').any(|part| MODULES.contains(&part) || matches!(part, "__builtins__" | "__globals__"))
    });
    through || FUNCTIONS.iter().any(|(known, names)| *known == module && names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_executes_is_told_from_what_describes() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("os.path", "join"),
            ("subprocess", "Popen"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("__builtin__", "file"),
            ("importlib", "import_module"),
            ("types", "CodeType"),
            ("torch.serialization", "os.system"),
            ("torch", "serialization.os.system"),
            ("torch.hub", "load"),
        ] {
            assert!(runs(module, name), "{module}.{name}");
        }
        for (module, name) in [
            ("argparse", "Namespace"),
            ("collections", "OrderedDict"),
            ("collections", "defaultdict"),
            ("torch", "Size"),
            ("torch", "device"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy", "dtype"),
            ("builtins", "set"),
            ("builtins", "slice"),
            ("_codecs", "encode"),
            ("pathlib", "PosixPath"),
            ("omegaconf.dictconfig", "DictConfig"),
            ("functools", "partial"),
            ("code.config", "Config"),
            ("signal", "Signals"),
            ("os", "_Environ"),
        ] {
            assert!(!runs(module, name), "{module}.{name}");
        }
    }
}
