//! Requests out of JSON, stricter and in plainer words than serde's derive alone, which takes an array for an object, by the
//! order of the fields, and names the types of Rust.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};

use super::error::Refusal;

/// Reads a body, an object, whatever `Content-Type` says of it.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    // Checked once for all: what follows then takes every string as it stands.
    let text = std::str::from_utf8(body).map_err(|_| Refusal::NotUtf8)?;
    let Object(request) = serde_json::from_str(text).map_err(Refusal::Json)?;
    Ok(request)
}

/// A field that is an object; `null` is as if absent.
pub(super) fn object<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let field = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(field.map(|Object(value)| value))
}

/// A field that is an integer; `null` is as if absent.
pub(super) fn integer<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i128>,
    D: Deserializer<'de>,
{
    let field = Option::<Integer<T>>::deserialize(deserializer)?;
    Ok(field.map(|Integer(value)| value))
}

/// A field that is an array of integers; `null` is as if absent.
pub(super) fn integers<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: TryFrom<i128>,
    D: Deserializer<'de>,
{
    let field = Option::<Vec<Integer<T>>>::deserialize(deserializer)?;
    Ok(field.map(|list| list.into_iter().map(|Integer(value)| value).collect()))
}

/// A number that must be given, and not 0: as in OpenIM, whose callers may not tell the two apart.
pub(super) fn required<T: Default + PartialEq>(
    field: Option<T>,
    name: &'static str,
) -> Result<T, Refusal> {
    let number = field.ok_or(Refusal::Required(name))?;
    if number == T::default() {
        return Err(Refusal::Zero(name));
    }
    Ok(number)
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, entries: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(Object)
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

struct Integer<T>(T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Integer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<T: TryFrom<i128>> Visitor<T> {
            fn fit<E: de::Error>(number: i128) -> Result<Integer<T>, E> {
                let fitting = T::try_from(number).map(Integer);
                fitting.map_err(|_| E::custom(format_args!("{number} is out of range")))
            }
        }

        impl<T: TryFrom<i128>> de::Visitor<'_> for Visitor<T> {
            type Value = Integer<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Integer<T>, E> {
                Self::fit(number.into())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Integer<T>, E> {
                Self::fit(number.into())
            }
        }

        deserializer.deserialize_any(Visitor(PhantomData))
    }
}
