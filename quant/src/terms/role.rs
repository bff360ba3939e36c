//! What a site holds, derived from the graph around it.

use super::words;

/// What a site holds, seen from the operation that made it or uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The preprocessed input image.
    Image,
    /// A row of an embedding table, or a sum of such rows.
    Embedding,
    /// The output of a layer normalisation.
    PostLayerNorm,
    /// Attention probabilities.
    PostSoftmax,
    /// The output of GELU or one of its approximations.
    PostGelu,
    /// The output of `ReLU`.
    PostRelu,
    /// The output of tanh.
    PostTanh,
    /// The left operand of q·kᵀ.
    Query,
    /// The right operand of q·kᵀ.
    Key,
    /// The right operand of attention × v.
    Value,
    /// The sum of a residual connection.
    Residual,
    /// A stored parameter.
    Weight,
    /// None of the above.
    Other,
}

words!(Role, "role", {
    Image => "image",
    Embedding => "embedding",
    PostLayerNorm => "post-layernorm",
    PostSoftmax => "post-softmax",
    PostGelu => "post-gelu",
    PostRelu => "post-relu",
    PostTanh => "post-tanh",
    Query => "query",
    Key => "key",
    Value => "value",
    Residual => "residual",
    Weight => "weight",
    Other => "other",
});

#[cfg(test)]
mod tests {
    use super::Role;

    #[test]
    fn words_survive_a_round_trip() {
        for &role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            let json = serde_json::to_string(&role).unwrap();
            assert_eq!(json, format!("\"{role}\""));
            assert_eq!(serde_json::from_str::<Role>(&json).unwrap(), role);
        }
    }

    #[test]
    fn an_unknown_word_names_the_known_ones() {
        let error = "postln".parse::<Role>().unwrap_err().to_string();
        assert!(error.contains("postln") && error.contains("post-layernorm"), "{error}");
    }
}
