//! Command line: a command followed by `--name value` pairs.

use std::error::Error;
use std::str::FromStr;

/// The words of the command line.
pub struct Args(Vec<String>);

impl Args {
    /// Takes the words after the program name and refuses options outside `known`.
    pub fn parse(words: Vec<String>, known: &[&str]) -> Result<Self, Box<dyn Error>> {
        for (i, word) in words.iter().enumerate().skip(1) {
            let option = word.strip_prefix("--").is_some_and(|name| known.contains(&name));
            if i % 2 == 1 && !option {
                return Err(format!("unknown option {word}; there are: --{}", known.join(", --")).into());
            }
        }
        if words.len() > 1 && words.len().is_multiple_of(2) {
            return Err("the last option has no value".into());
        }
        Ok(Self(words))
    }

    /// The command, if there is one.
    pub fn command(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }

    /// The value of an option.
    pub fn get<T>(&self, name: &str, default: T) -> Result<T, Box<dyn Error>>
    where
        T: FromStr,
        T::Err: Error + 'static,
    {
        let mut pairs = self.0.get(1..).unwrap_or_default().chunks_exact(2);
        match pairs.find(|pair| pair[0].strip_prefix("--") == Some(name)) {
            Some(pair) => Ok(pair[1].parse()?),
            None => Ok(default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_values_and_names() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let args = Args::parse(words("train --seed 3"), &["seed", "out"]).unwrap();
        assert_eq!(args.command(), Some("train"));
        assert_eq!(args.get("seed", 1u64).unwrap(), 3);
        assert_eq!(args.get("out", 7u64).unwrap(), 7);
        assert!(Args::parse(words("train --sed 3"), &["seed"]).is_err());
        assert!(Args::parse(words("train --seed"), &["seed"]).is_err());
        assert!(Args::parse(words("train --seed x"), &["seed"]).unwrap().get("seed", 1u64).is_err());
    }
}
