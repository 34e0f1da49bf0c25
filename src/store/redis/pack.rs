//! The two encodings that scripts read and write: MessagePack, and packed little-endian numbers.
//!
//! Lua's numbers are doubles; ours are integers below 2^53, which a double holds exactly.
//!
//! Packed numbers need no table in Lua, so what has a fixed shape goes so; MessagePack takes the rest. JSON
//! would be longer, and text to be parsed on both sides.

/// What a double holds exactly; larger numbers are cut to it. Our moments, in microseconds, stay below it until
/// the year 2255.
const EXACT: u64 = 1 << 53;

/// The double of an integer, cut to 2^53. Cut, not refused: only a limit or a span can be so large, and one of
/// 2^53 is as good as endless. In two halves, for each of them has a lossless conversion.
#[must_use]
pub(super) fn double(number: u64) -> f64 {
    let number = number.min(EXACT);
    let high = u32::try_from(number >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(number & 0xffff_ffff).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// The integer of a double; none for a fraction, a negative number, or one from 2^53 on: that double also
/// stands for integers beside it, so it may not be the one that was meant.
#[must_use]
pub(super) fn integer(double: f64) -> Option<u64> {
    let exact = (0.0..9_007_199_254_740_992.0).contains(&double) && double.fract() == 0.0;
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^53, as the line above says"
    )]
    exact.then_some(double as u64)
}

/// A list in MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>): integers, texts, lists.
///
/// Heads of lists and texts are always the five bytes of the longest form: `cmsgpack` reads every form, and one
/// form is one path to test.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// The items without the head of the list, which is written last.
    bytes: Vec<u8>,
    /// The head counts items, not bytes; a nested list is one.
    items: u32,
}

impl Packed {
    /// Appends an integer: in one byte what numbers of keys, rows and flags mostly are, else in five or nine.
    /// Lua gets it exactly below 2^53.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.items += 1;
        match (u8::try_from(number), u32::try_from(number)) {
            (Ok(byte), _) if byte < 0x80 => self.bytes.push(byte),
            (_, Ok(short)) => {
                self.bytes.push(0xce);
                self.bytes.extend_from_slice(&short.to_be_bytes());
            }
            _ => {
                self.bytes.push(0xcf);
                self.bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        self
    }

    /// Appends -1, the only negative number that goes out: unknown, where 0 is a value.
    pub(super) fn minus_one(&mut self) -> &mut Self {
        self.items += 1;
        self.bytes.push(0xff);
        self
    }

    /// Appends a text. Its length is in bytes, and Lua takes it as bytes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.items += 1;
        self.bytes.push(0xdb);
        self.bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// Appends a finished list as one item.
    pub(super) fn list(&mut self, list: &Self) -> &mut Self {
        self.items += 1;
        list.write(&mut self.bytes);
        self
    }

    /// The whole, its head in front: what goes into ARGV.
    pub(super) fn finish(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 5);
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(0xdd);
        bytes.extend_from_slice(&self.items.to_be_bytes());
        bytes.extend_from_slice(&self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_the_way_through_a_double() {
        for number in [0, 1, 4_294_967_295, 4_294_967_296, 1_795_507_215_218_651, EXACT - 1] {
            assert_eq!(integer(double(number)), Some(number));
        }
        assert_eq!(double(u64::MAX).to_bits(), double(EXACT).to_bits());
        for bad in [-1.0, 0.5, f64::NAN, f64::INFINITY, 9_007_199_254_740_992.0] {
            assert_eq!(integer(bad), None);
        }
    }

    #[test]
    fn packs_what_the_format_says() {
        let mut inner = Packed::default();
        inner.number(7).minus_one();
        let mut packed = Packed::default();
        packed.number(128).number(1 << 40).text("ab").list(&inner);
        let expected = [
            0xdd, 0, 0, 0, 4, 0xce, 0, 0, 0, 128, 0xcf, 0, 0, 1, 0, 0, 0, 0, 0, 0xdb, 0, 0, 0, 2, b'a', b'b',
            0xdd, 0, 0, 0, 2, 7, 0xff,
        ];
        assert_eq!(packed.finish(), expected);
    }
}
