//! What the papers do at the sites that can have bits of their own.

use super::{Method, Place};
use crate::graph::Graph;
use crate::terms::{Bits, Role, Slot};

/// Widths that a method is asked for to see what becomes of them.
const ASKED: [u8; 2] = [3, 5];

/// The bits of some sites by a method's paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaperBits {
    /// What was asked for all.
    AsAsked,
    /// These, whatever was asked for.
    Always(Bits),
    /// Not the same everywhere.
    Varies,
}

/// Of some layers; `None` where the model has no such site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaperLayers {
    /// Of their weights.
    pub weights: Option<PaperBits>,
    /// Of their activations.
    pub activations: Option<PaperBits>,
}

/// What [`MethodBits`](super::MethodBits) leaves to the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceptions {
    /// The layers that read the picture.
    pub patch_embedding: PaperLayers,
    /// The last layers.
    pub last: PaperLayers,
    /// Attention probabilities.
    pub softmax: PaperLayers,
}

/// The bits that a method's paper gives the sites of a model that can have their own.
pub fn exceptions(method: &dyn Method, graph: &Graph) -> Exceptions {
    let places = Place::all(graph);
    let of = |wanted: fn(&Place<'_>) -> bool| {
        let common = |weights: bool| {
            let own = places.iter().filter(|p| wanted(p) && (p.site.id.slot == Slot::Weight) == weights);
            own.map(|place| of_place(method, place))
                .reduce(|all, one| if all == one { all } else { PaperBits::Varies })
        };
        PaperLayers { weights: common(true), activations: common(false) }
    };
    Exceptions {
        patch_embedding: of(|place| place.patch_embedding),
        last: of(|place| place.last),
        softmax: of(|place| place.site.role == Role::PostSoftmax),
    }
}

fn of_place(method: &dyn Method, place: &Place<'_>) -> PaperBits {
    let mut found = ASKED.into_iter().filter_map(|bits| Bits::new(bits).ok()).map(|asked| {
        let bits = method.site(place, asked).map_or(Bits::FLOAT, |(_, bits)| bits);
        if bits == asked { PaperBits::AsAsked } else { PaperBits::Always(bits) }
    });
    match (found.next(), found.next()) {
        (Some(a), Some(b)) if a == b => a,
        _ => PaperBits::Varies,
    }
}

#[cfg(test)]
mod tests {
    use super::{PaperBits, PaperLayers, exceptions};
    use crate::method::method;
    use crate::models::{ModelFiles, open};
    use crate::terms::Bits;
    use std::path::Path;

    #[test]
    fn papers_are_told_as_their_methods_do() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny");
        let model = open(&ModelFiles::Path(folder), None).unwrap();
        let of = |name: &str| exceptions(method(name).unwrap(), &model.graph);
        let (same, float) = (Some(PaperBits::AsAsked), Some(PaperBits::Always(Bits::FLOAT)));
        let plain = of("minmax");
        assert_eq!(plain.patch_embedding, PaperLayers { weights: same, activations: same });
        assert_eq!(plain.softmax, PaperLayers { weights: None, activations: same });
        let ris = of("ptq4ris");
        assert_eq!(ris.patch_embedding, PaperLayers { weights: same, activations: float });
        assert_eq!(ris.last, PaperLayers { weights: float, activations: float });
    }
}
