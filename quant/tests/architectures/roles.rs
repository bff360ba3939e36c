//! What the sites of some layers hold, against a list.

use bitloupe_quant::models::Model;

/// Compares the sites of all layers whose name starts with `within`, without their weights, with lines `layer:slot role`;
/// names in the list lack `within`.
pub(crate) fn compare(model: &Model, within: &str, expected: &[&str]) {
    let found: Vec<String> = model
        .graph
        .sites()
        .iter()
        .map(|site| (site.id.to_string(), site.role))
        .filter_map(|(site, role)| Some(format!("{} {role}", site.strip_prefix(within)?)))
        .filter(|line| !line.contains(":weight "))
        .collect();
    assert_eq!(found, expected, "{within}");
}
