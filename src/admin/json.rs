//! Parses requests from JSON, more strictly and with plainer errors than serde's derive alone. The derive also accepts an
//! array for an object, by the order of the fields, and its errors name Rust types.
//!
//! A key matches in any case, because OpenIM is written in Go, whose JSON decoder ignores case, and its own manual has
//! `senderNickName` for `senderNickname`. An object that has one key twice, in the same or another case, is refused, because
//! the caller's intention is not known. Keys inside `content` match only as they are written, because clients get `content`
//! byte for byte.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer as _},
    forward_to_deserialize_any,
};

use super::error::Refusal;

/// Parses a body, which is an object. `Content-Type` is ignored.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    // UTF-8 is checked once here. The code below trusts every string.
    let text = std::str::from_utf8(body).map_err(|_| Refusal::NotUtf8)?;
    // PowerShell and .NET put a byte order mark in front. RFC 8259 section 8.1 allows a reader to ignore it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Object(request) = serde_json::from_str(text).map_err(Refusal::Json)?;
    Ok(request)
}

/// A field that is an object; `null` counts as absent.
pub(super) fn object<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let field = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(field.map(|Object(value)| value))
}

/// A field that is an array of objects; `null` counts as absent.
pub(super) fn objects<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let field = Option::<Vec<Object<T>>>::deserialize(deserializer)?;
    Ok(field.map(|list| list.into_iter().map(|Object(value)| value).collect()))
}

/// A field that is an integer; `null` counts as absent.
pub(super) fn integer<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i128>,
    D: Deserializer<'de>,
{
    let field = Option::<Integer<T>>::deserialize(deserializer)?;
    Ok(field.map(|Integer(value)| value))
}

/// A field that is an array of integers; `null` counts as absent.
pub(super) fn integers<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: TryFrom<i128>,
    D: Deserializer<'de>,
{
    let field = Option::<Vec<Integer<T>>>::deserialize(deserializer)?;
    Ok(field.map(|list| list.into_iter().map(|Integer(value)| value).collect()))
}

/// A number that must be given and must not be 0. OpenIM has the same rule, because it cannot tell the two apart.
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
                T::deserialize(Folding(entries)).map(Object)
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// The entries of an object, in the form that a derived struct expects: a key that differs from one of the struct's keys
/// only in case becomes that key.
struct Folding<A>(A);

impl<'de, A: de::MapAccess<'de>> Deserializer<'de> for Folding<A> {
    type Error = A::Error;

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        debug_assert!(known.len() <= u32::BITS as usize);
        visitor.visit_map(Folded {
            entries: self.0,
            keys: StructKeys { known, had: 0 },
        })
    }

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Folded<A> {
    entries: A,
    keys: StructKeys,
}

/// The keys of a struct, and one bit for each key that the object has had so far.
struct StructKeys {
    known: &'static [&'static str],
    had: u32,
}

impl StructKeys {
    /// The key that the struct gets instead of `key`. Fails if the object had it before.
    fn fold<'k, E: de::Error>(&mut self, key: &'k str) -> Result<&'k str, E> {
        let is_alike = |known: &&str| known.eq_ignore_ascii_case(key);
        let Some(index) = self.known.iter().position(is_alike) else {
            return Ok(key);
        };
        let known = self.known[index];
        if self.had >> index & 1 == 1 {
            return Err(E::custom(format_args!(
                "the key {known} stands twice; upper and lower case are the same"
            )));
        }
        self.had |= 1 << index;
        Ok(known)
    }
}

impl<'de, A: de::MapAccess<'de>> de::MapAccess<'de> for Folded<A> {
    type Error = A::Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let keys = &mut self.keys;
        self.entries.next_key_seed(NextKey { seed, keys })
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, A::Error> {
        self.entries.next_value_seed(seed)
    }
}

/// One key on its way to the struct.
struct NextKey<'k, K> {
    seed: K,
    keys: &'k mut StructKeys,
}

impl<'de, K: de::DeserializeSeed<'de>> de::DeserializeSeed<'de> for NextKey<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, K: de::DeserializeSeed<'de>> de::Visitor<'de> for NextKey<'_, K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<K::Value, E> {
        self.seed
            .deserialize(self.keys.fold(key)?.into_deserializer())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug, PartialEq)]
    struct Request {
        #[serde(rename = "sendID", default)]
        send_id: String,
        #[serde(default, deserialize_with = "object")]
        inner: Option<Inner>,
        #[serde(default)]
        ex: String,
    }

    #[derive(Deserialize, Debug, PartialEq)]
    struct Inner {
        #[serde(rename = "iOSPushSound")]
        sound: String,
    }

    fn send_id(body: &str) -> Result<String, Refusal> {
        parse::<Request>(body.as_bytes()).map(|request| request.send_id)
    }

    #[test]
    fn a_key_counts_whatever_its_case_also_inside() {
        for (key, inner, sound) in [
            ("sendID", "inner", "iOSPushSound"),
            ("sendId", "INNER", "iosPushSound"),
            ("SENDID", "Inner", "IOSPUSHSOUND"),
        ] {
            let body = format!(r#"{{"{key}":"a","{inner}":{{"{sound}":"ding"}},"exx":1,"":2}}"#);
            let request: Request = parse(body.as_bytes()).unwrap();
            assert_eq!(request.send_id, "a");
            assert_eq!(request.inner.unwrap().sound, "ding");
            assert_eq!(request.ex, "");
        }
    }

    #[test]
    fn a_key_that_stands_twice_in_any_case_is_refused_by_name() {
        for body in [
            r#"{"sendID":"a","sendID":"a"}"#,
            r#"{"sendID":"a","sendId":"b"}"#,
            r#"{"sendId":"a","SENDID":null}"#,
            r#"{"sendId":"a","SendID":"b","sendID":"c","SENDID":"d"}"#,
        ] {
            let Err(Refusal::Json(error)) = send_id(body) else {
                panic!("{body} is taken");
            };
            let text = error.to_string();
            assert!(text.contains("the key sendID stands twice"), "{text}");
        }
        let inside = br#"{"inner":{"iOSPushSound":"a","iosPushSound":"b"}}"#;
        let refused = parse::<Request>(inside);
        assert!(matches!(refused, Err(Refusal::Json(_))));
        let unknown = r#"{"sendID":"a","exx":1,"exx":2}"#;
        assert_eq!(send_id(unknown).unwrap(), "a", "no key of ours");
    }

    #[test]
    fn one_byte_order_mark_in_front_is_passed_over() {
        assert_eq!(send_id("\u{feff}{\"sendID\":\"a\"}").unwrap(), "a");
        assert!(send_id("\u{feff}\u{feff}{}").is_err());
        assert!(send_id("{\u{feff}}").is_err());
    }
}
