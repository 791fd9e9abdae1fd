//! Members of stored JSON objects that this version does not know, kept exactly as they are written.
//!
//! A newer version may add members to any object. A read skips their values without parsing them, so a number such as
//! `1e400` or deep nesting does no harm, and takes no stack. A rewrite appends them behind the known members: the same
//! text, in the same order, duplicates included. serde's own derive says which members are known, so there is no second
//! list of names. Does not know any document.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor, value::Error as ValueError},
    forward_to_deserialize_any, ser,
};
use serde_json::value::RawValue;

use super::{encode, fault};

/// Encodes a changed document: the members of `seen` that its form does not know follow the known ones.
///
/// # Errors
/// `seen` is not a JSON object.
pub(super) fn encode_over<'a, T: Serialize + Deserialize<'a>>(seen: &'a [u8], document: &T) -> Result<Vec<u8>, String> {
    let mut bytes = encode(document);
    UnknownMembers::of::<T>(seen).map_err(fault)?.append_to(&mut bytes);
    Ok(bytes)
}

/// An object inside a document: its known members, and the whole object as it was read.
pub(super) struct Nested<'a, T> {
    pub(super) known: T,
    seen: Option<&'a RawValue>,
}

impl<'a, T> Nested<'a, T> {
    /// The object `known`. Where it takes the place of `seen`, the unknown members of that one stay.
    pub(super) fn over(known: T, seen: Option<&Nested<'a, T>>) -> Self {
        Self { known, seen: seen.and_then(|seen| seen.seen) }
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Nested<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seen = <&RawValue>::deserialize(deserializer)?;
        let known = serde_json::from_str(seen.get()).map_err(de::Error::custom)?;
        Ok(Self { known, seen: Some(seen) })
    }
}

impl<'a, T: Serialize + Deserialize<'a>> Serialize for Nested<'a, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(seen) = self.seen else { return self.known.serialize(serializer) };
        let mut bytes = encode(&self.known);
        // Most objects neither changed nor have unknown members.
        if bytes == seen.get().as_bytes() {
            return seen.serialize(serializer);
        }
        UnknownMembers::of::<T>(seen.get().as_bytes()).map_err(ser::Error::custom)?.append_to(&mut bytes);
        let text = String::from_utf8(bytes).map_err(ser::Error::custom)?;
        RawValue::from_string(text).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

/// Names and values of members, as they are written.
struct UnknownMembers<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> UnknownMembers<'a> {
    /// The members of `object` that `T` does not know.
    fn of<T: Deserialize<'a>>(object: &'a [u8]) -> Result<Self, serde_json::Error> {
        let AllMembers(mut members) = serde_json::from_slice(object)?;
        let known = known_names::<T>();
        members.retain(|(name, _)| {
            let name: Result<String, _> = serde_json::from_str(name.get());
            name.map_or(true, |name| !known.contains(&name.as_str()))
        });
        Ok(Self(members))
    }

    /// Appends the members to the JSON object `bytes`.
    fn append_to(&self, bytes: &mut Vec<u8>) {
        let end = bytes.pop();
        debug_assert_eq!(end, Some(b'}'), "a document is a JSON object");
        for (name, value) in &self.0 {
            if bytes.last() != Some(&b'{') {
                bytes.push(b',');
            }
            bytes.extend_from_slice(name.get().as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(value.get().as_bytes());
        }
        bytes.push(b'}');
    }
}

/// All members of an object. serde also reads a struct from an array, which has no names, so that one has no members.
struct AllMembers<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for AllMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MembersVisitor).map(AllMembers)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }
}

/// The names of the members that the derived `T` reads.
fn known_names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // There is no value to read, so this always fails. By then serde has named the members.
    drop(T::deserialize(FieldNames(&mut names)));
    debug_assert!(!names.is_empty(), "the form is a struct whose Deserialize is derived");
    names
}

/// A deserializer that has no value. It learns the names that a struct asks for.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
        Err(de::Error::custom("there is no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Outer<'a> {
        a: u32,
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        nested: Option<Nested<'a, Inner>>,
    }

    #[derive(Serialize, Deserialize)]
    struct Inner {
        b: u32,
    }

    /// Reads `seen`, changes the known members and writes it again.
    fn rewritten(seen: &str) -> String {
        let outer: Outer<'_> = serde_json::from_str(seen).unwrap_or_else(|fault| panic!("{seen}: {fault}"));
        let nested = outer.nested.map(|seen| Nested::over(Inner { b: 2 }, Some(&seen)));
        let changed = Outer { a: 2, nested };
        String::from_utf8(encode_over(seen.as_bytes(), &changed).unwrap()).unwrap()
    }

    #[test]
    fn known_names_are_those_of_the_derive() {
        assert_eq!(known_names::<Outer<'_>>(), ["a", "nested"]);
    }

    #[test]
    fn unknown_members_survive_a_rewrite_exactly() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for value in [
            "18446744073709551616",
            "-0",
            "1E5",
            "1.50",
            "1e400",
            "0.1e-999",
            r#""\ud800 \u00e4 \/""#,
            "null",
            "[]",
            &deep,
        ] {
            let seen = format!(r#"{{"z":{value},"a":1,"y":{{"b":1, "a":{value}}}}}"#);
            let expected = format!(r#"{{"a":2,"z":{value},"y":{{"b":1, "a":{value}}}}}"#);
            assert_eq!(rewritten(&seen), expected);
            let seen = format!(r#"{{"a":1,"nested":{{"x":{value},"b":1,"c":{value}}}}}"#);
            let expected = format!(r#"{{"a":2,"nested":{{"b":2,"x":{value},"c":{value}}}}}"#);
            assert_eq!(rewritten(&seen), expected);
        }
    }

    #[test]
    fn order_duplicates_and_spelling_of_unknown_names_survive() {
        assert_eq!(rewritten(r#"{ "z" : 1 , "a" : 1 , "b" : 2 , "z" : 3 }"#), r#"{"a":2,"z":1,"b":2,"z":3}"#);
        assert_eq!(rewritten(r#"{"\u0061":1,"\u0062":2,"":3}"#), r#"{"a":2,"\u0062":2,"":3}"#, "an escaped known name");
        assert_eq!(rewritten(r#"{"a":1}"#), r#"{"a":2}"#);
        assert_eq!(rewritten(r#"{"a":1,"nested":[1]}"#), r#"{"a":2,"nested":{"b":2}}"#, "an array has no names");
    }

    #[test]
    fn a_nested_object_that_is_replaced_by_another_loses_its_unknown_members() {
        let nested = Nested::over(Inner { b: 5 }, None);
        let bytes = encode_over(br#"{"a":1,"nested":{"b":1,"x":1}}"#, &Outer { a: 2, nested: Some(nested) });
        assert_eq!(bytes.unwrap(), br#"{"a":2,"nested":{"b":5}}"#);
    }

    /// A linear congruential generator: the same documents in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }

        fn value(&mut self, depth: u64) -> String {
            let numbers = ["0", "-0", "1E5", "1e400", "-12.5e-3", "18446744073709551616", "0.10"];
            match self.below(if depth == 0 { 4 } else { 6 }) {
                0 => numbers[usize::try_from(self.below(7)).unwrap()].into(),
                1 => ["true", "false", "null"][usize::try_from(self.below(3)).unwrap()].into(),
                2 => format!(r#""text {} \n \" \u2028 \uD83E\uDD80""#, self.below(100)),
                3 => r#""""#.into(),
                4 => format!("[{}]", (0..self.below(4)).map(|_| self.value(depth - 1)).collect::<Vec<_>>().join(", ")),
                _ => format!("{{{}}}", self.members(depth - 1).join(",")),
            }
        }

        fn members(&mut self, depth: u64) -> Vec<String> {
            (0..self.below(6)).map(|_| format!(r#""x{}":{}"#, self.below(9), self.value(depth))).collect()
        }
    }

    #[test]
    fn random_unknown_members_survive_exactly_wherever_the_known_ones_are() {
        let mut random = Random(14);
        for _ in 0..2_000 {
            let (outer, inner) = (random.members(3), random.members(3));
            let place = |random: &mut Random, members: &[String], known: String| {
                let mut members = members.to_vec();
                members.insert(usize::try_from(random.below(members.len() as u64 + 1)).unwrap(), known);
                format!("{{{}}}", members.join(","))
            };
            let appended = |known: &str, members: &[String]| {
                let all: Vec<_> = std::iter::once(known.to_owned()).chain(members.iter().cloned()).collect();
                format!("{{{}}}", all.join(","))
            };
            let nested = place(&mut random, &inner, r#""b":1"#.into());
            let seen = place(&mut random, &outer, format!(r#""nested":{nested},"a":1"#));
            let nested = appended(r#""b":2"#, &inner);
            assert_eq!(rewritten(&seen), appended(&format!(r#""a":2,"nested":{nested}"#), &outer), "{seen}");
        }
    }
}
