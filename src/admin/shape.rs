//! Checks a JSON object against a table of known fields, in one pass and without building it.
//!
//! A known field must have its JSON type. A required field must be present and not empty or zero. Unknown keys are skipped.
//! `null` counts as absent. If a key occurs twice, each value is checked, and the last one decides.

use std::fmt;

use serde::de::{self, DeserializeSeed as _, IgnoredAny, MapAccess, SeqAccess};
use serde_json::{Value, json};

/// A field of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

/// The JSON type of a field.
pub(super) enum Kind {
    /// A string.
    Text,
    /// Any number: sizes, durations, coordinates.
    Number,
    /// An integer without a fraction. Other values have the wrong type; an integer out of bounds breaks a rule.
    Integer { min: i64, max: i64 },
    /// `true` or `false`.
    Boolean,
    /// An object with these known fields.
    Object(&'static [Field]),
    /// An array of values of this kind.
    List(&'static Kind),
}

impl Field {
    /// A field that may be absent.
    pub(super) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            is_required: false,
        }
    }

    /// A field that must be given, and not empty or zero.
    pub(super) const fn required(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            is_required: true,
        }
    }
}

/// The fault of an object, and the field that has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The names from the outermost object to the field.
    path: Vec<&'static str>,
    fault: Fault,
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Shape(&'static str),
    Unreadable(String),
    Missing,
    OutOfBounds { min: i64, max: i64 },
}

impl Problem {
    /// True if the JSON type is wrong; false if a rule about the value is broken.
    pub(super) fn is_shape(&self) -> bool {
        matches!(self.fault, Fault::Shape(_) | Fault::Unreadable(_))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("content")?;
        self.path.iter().try_for_each(|name| write!(f, ".{name}"))?;
        match &self.fault {
            Fault::Shape(expected) => write!(f, " must be {expected}"),
            Fault::Unreadable(error) => write!(f, ": {error}"),
            Fault::Missing => f.write_str(" is required"),
            Fault::OutOfBounds { min, max } => write!(f, " must be from {min} to {max}"),
        }
    }
}

/// Checks that `json`, which must be valid JSON, is an object with these fields.
pub(super) fn check(fields: &'static [Field], json: &str) -> Result<(), Problem> {
    let mut problem = None;
    let walk = Walk {
        kind: &Kind::Object(fields),
        problem: &mut problem,
    };
    let walked = walk.deserialize(&mut serde_json::Deserializer::from_str(json));
    match (problem, walked) {
        (Some(mut problem), _) => {
            // Names were added from the inside outwards.
            problem.path.reverse();
            Err(problem)
        }
        // Syntax errors that only parsing a string or a number finds: a lone surrogate, 1e999.
        (None, Err(error)) => Err(Problem {
            path: Vec::new(),
            fault: Fault::Unreadable(error.to_string()),
        }),
        (None, Ok(_)) => Ok(()),
    }
}

/// Walks one value. Yields true if it was given, that is, neither null, empty nor zero.
struct Walk<'p> {
    kind: &'p Kind,
    /// Receives the first problem. The walk then ends with an error without content.
    problem: &'p mut Option<Problem>,
}

impl Walk<'_> {
    fn fail<E: de::Error>(self, fault: Fault) -> Result<bool, E> {
        *self.problem = Some(Problem {
            path: Vec::new(),
            fault,
        });
        Err(E::custom(""))
    }

    fn mismatch<E: de::Error>(self) -> Result<bool, E> {
        let expected = match self.kind {
            Kind::Text => "a string",
            Kind::Number => "a number",
            Kind::Integer { .. } => "an integer",
            Kind::Boolean => "true or false",
            Kind::Object(_) => "an object",
            Kind::List(_) => "an array",
        };
        self.fail(Fault::Shape(expected))
    }

    fn integer<E: de::Error>(self, value: i128) -> Result<bool, E> {
        match *self.kind {
            Kind::Integer { min, max } if value < i128::from(min) || value > i128::from(max) => {
                self.fail(Fault::OutOfBounds { min, max })
            }
            Kind::Number | Kind::Integer { .. } => Ok(value != 0),
            _ => self.mismatch(),
        }
    }
}

impl<'de> de::DeserializeSeed<'de> for Walk<'_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Walk<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        match self.kind {
            Kind::Text => Ok(!text.is_empty()),
            _ => self.mismatch(),
        }
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
        match self.kind {
            Kind::Boolean => Ok(value),
            _ => self.mismatch(),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
        self.integer(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<bool, E> {
        self.integer(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<bool, E> {
        match self.kind {
            Kind::Number => Ok(value != 0.0),
            _ => self.mismatch(),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let Kind::List(kind) = self.kind else {
            return self.mismatch();
        };
        let mut is_given = false;
        while items
            .next_element_seed(Walk {
                kind,
                problem: self.problem,
            })?
            .is_some()
        {
            is_given = true;
        }
        Ok(is_given)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<bool, A::Error> {
        let Kind::Object(fields) = *self.kind else {
            return self.mismatch();
        };
        // One bit a field. A table with too many fields fails the first debug run.
        let mut given = 0_u32;
        debug_assert!(fields.len() <= 32);
        while let Some(index) = entries.next_key_seed(Name(fields))? {
            let Some(index) = index else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let walk = Walk {
                kind: &fields[index].kind,
                problem: self.problem,
            };
            let walked = entries.next_value_seed(walk);
            if let (Err(_), Some(problem)) = (&walked, self.problem.as_mut()) {
                problem.path.push(fields[index].name);
            }
            given &= !(1 << index);
            given |= u32::from(walked?) << index;
        }
        let missing = fields
            .iter()
            .enumerate()
            .find(|(index, field)| field.is_required && given >> index & 1 == 0);
        if let Some((_, field)) = missing {
            *self.problem = Some(Problem {
                path: vec![field.name],
                fault: Fault::Missing,
            });
            return Err(de::Error::custom(""));
        }
        Ok(true)
    }
}

/// Finds a key's index in the table without copying the key.
struct Name(&'static [Field]);

impl<'de> de::DeserializeSeed<'de> for Name {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl de::Visitor<'_> for Name {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|field| field.name == key))
    }
}

/// The JSON schema of an object with these fields, for `/openapi.json`.
pub(super) fn schema(fields: &'static [Field]) -> Value {
    let properties: serde_json::Map<_, _> = fields
        .iter()
        .map(|field| (field.name.to_owned(), kind_schema(&field.kind)))
        .collect();
    let required: Vec<_> = fields
        .iter()
        .filter(|field| field.is_required)
        .map(|field| field.name)
        .collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn kind_schema(kind: &'static Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Object(fields) => schema(fields),
        Kind::List(kind) => json!({ "type": "array", "items": kind_schema(kind) }),
    }
}
