//! Messages of every shape, thrown by dice: whatever a type can hold, with a
//! liking for what is at its edges.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess,
    Visitor,
};

use crate::rng::Rng;

/// The dice, and what they show more often than chance would.
pub(super) struct Dice {
    pub(super) rng: Rng,
    /// Byte strings that mean something: ids by their lengths.
    pub(super) known: Vec<Vec<u8>>,
}

/// What was thrown is no value of the type.
#[derive(Debug)]
pub(super) struct Miss;

impl Dice {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.rng.next_u64() % limit
    }

    fn number(&mut self, max: u64) -> u64 {
        let edges = [0, 1, 2, 3, 4094, 4095, 4096, max / 2, max - 1, max];
        match self.below(4) {
            0 => self.rng.next_u64() & max,
            1 => self.below(8),
            _ => edges[self.below(edges.len() as u64) as usize] & max,
        }
    }

    /// As many as a list has: few, and now and then many.
    fn count(&mut self) -> usize {
        match self.below(20) {
            0 => 300,
            _ => self.below(4) as usize,
        }
    }

    /// An array of bytes: one that is known, or any.
    fn array(&mut self, len: usize) -> Vec<u8> {
        let known: Vec<&Vec<u8>> = self.known.iter().filter(|id| id.len() == len).collect();
        let pick = self.rng.next_u64() as usize;
        if !known.is_empty() && !pick.is_multiple_of(8) {
            return known[pick / 8 % known.len()].clone();
        }
        (0..len).map(|_| self.rng.next_u64() as u8).collect()
    }

    fn string(&mut self) -> String {
        let some = ["a", "a/b", "", "bucket/with/slashes", "/", "\u{1f3b5}/\0"];
        match self.below(10) {
            0 => "long".repeat(self.below(400) as usize),
            _ => some[self.below(some.len() as u64) as usize].into(),
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a miss")
    }
}

impl core::error::Error for Miss {}

impl de::Error for Miss {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
            visitor.$visit(self.number(<$type>::MAX as u64) as $type)
        })*
    };
}

macro_rules! never {
    ($($method:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Miss> {
            Err(Miss)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Dice {
    type Error = Miss;

    numbers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );
    never!(
        deserialize_any,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_unit,
        deserialize_map,
        deserialize_identifier,
        deserialize_ignored_any
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
        visitor.visit_bool(self.below(2) == 0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
        visitor.visit_string(self.string())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
        visitor.visit_string(self.string())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
        visitor.visit_byte_buf(self.array(5))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
        visitor.visit_byte_buf(self.array(5))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
        match self.below(3) {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Miss> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Miss> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Miss> {
        let left = self.count();
        visitor.visit_seq(Items { dice: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Miss> {
        if len == 16 || len == 32 {
            let bytes = self.array(len);
            return visitor.visit_seq(de::value::SeqDeserializer::new(bytes.into_iter()));
        }
        visitor.visit_seq(Items {
            dice: self,
            left: len,
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Miss> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Miss> {
        visitor.visit_seq(Items {
            dice: self,
            left: fields.len(),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Miss> {
        let index = self.below(variants.len() as u64) as u32;
        visitor.visit_enum(Variant { dice: self, index })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Items<'a> {
    dice: &'a mut Dice,
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Miss;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Miss> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.dice).map(Some)
    }
}

struct Variant<'a> {
    dice: &'a mut Dice,
    index: u32,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Miss;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Miss> {
        let index: U32Deserializer<Miss> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Miss;

    fn unit_variant(self) -> Result<(), Miss> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Miss> {
        seed.deserialize(self.dice)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Miss> {
        self.dice.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Miss> {
        self.dice.deserialize_struct("", fields, visitor)
    }
}
