//! The names of the fields that a struct of settings is read from, as serde knows them.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The names of the fields of a `T`, in the order of its source; none where it is no struct with named fields.
pub(crate) fn fields<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &[&str] = &[];
    // It asks for a struct of these fields, and that is all that is wanted.
    let _asked = T::deserialize(Asked(&mut names));
    names
}

/// Remembers what fields it is asked for, and has none.
struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("nothing here"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[test]
    fn fields_by_their_names_in_files() {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", default)]
        #[derive(Default)]
        #[allow(dead_code, reason = "only their names are read")]
        struct Two {
            first_one: f64,
            second: Option<u8>,
        }
        #[derive(Deserialize)]
        #[serde(transparent)]
        #[allow(dead_code, reason = "only its names are read")]
        struct Same(Two);
        assert_eq!(super::fields::<Two>(), ["first-one", "second"]);
        assert_eq!(super::fields::<Same>(), ["first-one", "second"]);
        assert!(super::fields::<f64>().is_empty());
    }
}
