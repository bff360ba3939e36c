//! What every method must do on every model.

use super::{METHODS, MethodBits, Place, method, plan};
use crate::models::{ModelFiles, open};
use crate::plan::SitePlan;
use crate::quantizer::Family;
use crate::terms::{Bits, Role, Slot};
use std::path::Path;

fn model() -> crate::models::Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny");
    open(&ModelFiles::Path(folder), None).unwrap()
}

fn bits(n: u8) -> Bits {
    Bits::new(n).unwrap()
}

#[test]
fn every_method_names_every_site_and_keeps_to_its_bits() {
    let model = model();
    for &method in METHODS {
        assert!(!method.treatment().is_empty() && !method.source().is_empty());
        let made =
            plan(method, &model.graph, crate::plan::ModelRef::default(), &MethodBits::new(bits(4), bits(6)));
        assert_eq!(made.method, method.name());
        assert_eq!(made.sites().count(), model.graph.sites().len(), "{}", method.name());
        for (id, site) in made.sites() {
            let expected = if id.slot == Slot::Weight { 4 } else { 6 };
            let role = model.graph.site(&id).unwrap().role;
            let width = site.bits();
            let fits = width.is_float() || width == bits(expected) || width == bits(8);
            assert!(fits, "{} {id} {role}: {width}", method.name());
        }
        assert!(super::method(method.name()).is_some());
    }
    assert!(method("nonsense").is_none());
}

#[test]
fn exceptions_are_options() {
    let model = model();
    let repq = method("repq-vit").unwrap();
    let all = MethodBits {
        patch_embedding: Some(bits(5)),
        last: Some(Bits::FLOAT),
        softmax: Some(bits(3)),
        ..MethodBits::new(bits(4), bits(4))
    };
    let made = plan(repq, &model.graph, crate::plan::ModelRef::default(), &all);
    let places = Place::all(&model.graph);
    assert!(places.iter().any(|p| p.last) && places.iter().any(|p| p.patch_embedding));
    assert!(places.iter().any(|p| p.text) && places.iter().any(|p| !p.text));
    for place in &places {
        let site = made.site(&place.site.id).unwrap();
        if place.patch_embedding {
            assert_eq!(site.bits(), bits(5), "{}", place.site.id);
        } else if place.last {
            assert_eq!(site, &SitePlan::Float, "{}", place.site.id);
        } else if place.site.role == Role::PostSoftmax {
            let SitePlan::Quantized { scheme, bits, .. } = site else { panic!("{}", place.site.id) };
            assert_eq!((scheme.family, bits.to_string().as_str()), (Family::LogSqrt2, "3"));
        }
    }
}
