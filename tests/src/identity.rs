//! The identity in a record's own text: `<stream> <producer> <sequence> <check> <padding>`. What comes out of a sink can
//! be matched with what went in without any of isolane's own bookkeeping.

/// One record's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The stream it was offered to.
    pub stream: String,
    /// The producer that offered it, unique within the stream.
    pub producer: u32,
    /// Counts the producer's records, from 0.
    pub sequence: u64,
}

impl Identity {
    /// The record's text, `bytes` long or as long as it must be.
    pub fn line(&self, bytes: usize) -> String {
        let Self { stream, producer, sequence } = self;
        let mut line = format!("{stream} {producer} {sequence} {:08x} ", self.check());
        let missing = bytes.saturating_sub(line.len());
        line.extend((0..missing).map(|i| char::from(b'a' + ((sequence + i as u64 * 7) % 26) as u8)));
        line
    }

    /// The identity of a line; `None` if it is not one of ours or was damaged on the way.
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(5, ' ');
        let identity = Self {
            stream: parts.next()?.to_owned(),
            producer: parts.next()?.parse().ok()?,
            sequence: parts.next()?.parse().ok()?,
        };
        let check = u32::from_str_radix(parts.next()?, 16).ok()?;
        let whole = identity.line(line.len()) == line;
        (check == identity.check() && whole).then_some(identity)
    }

    /// FNV-1a over the identity: a cut or joined line does not pass for another.
    fn check(&self) -> u32 {
        let text = format!("{}/{}/{}", self.stream, self.producer, self.sequence);
        text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_itself_and_any_damage_shows() {
        let identity = Identity { stream: "a.b.c".into(), producer: 3, sequence: 77 };
        let line = identity.line(120);
        assert_eq!(line.len(), 120);
        assert_eq!(Identity::parse(&line), Some(identity));
        assert_eq!(Identity::parse(&line[..60].replace("77", "78")), None);
        assert_eq!(Identity::parse(&format!("{line}!")), None);
        assert_eq!(Identity::parse("hello"), None);
    }
}
