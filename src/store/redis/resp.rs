//! RESP2, as much as a script call needs: a command out, a reply in.
//!
//! Source: the Redis serialization protocol, version 2 (redis.io/docs/latest/develop/reference/protocol-spec).
//!
//! Promise: a reply is read whole or not at all, whatever pieces it comes in; what is no reply, or larger than any of
//! ours, is an error and never waited for.

use bytes::{Buf as _, Bytes, BytesMut};

/// Most bytes of a reply: several times what a full batch is answered with.
const MAX_BULK: usize = 1024 * 1024;
/// Most bytes of a line: a length, a status, or an error's text.
const MAX_LINE: usize = 4 * 1024;
const END: &[u8] = b"\r\n";

/// What Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Bytes, of a script.
    Bulk(Bytes),
    /// A status or a number: done.
    Done,
    /// Redis's own words.
    Error(String),
}

/// Bytes that are no reply to what we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reply that is none of ours")]
pub(super) struct Foreign;

/// Begins a command of so many words.
pub(super) fn command(out: &mut BytesMut, words: usize) {
    out.extend_from_slice(b"*");
    number(out, words);
}

/// The next word of a command.
pub(super) fn word(out: &mut BytesMut, word: &[u8]) {
    out.extend_from_slice(b"$");
    number(out, word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(END);
}

/// A word that is a number.
pub(super) fn word_of(out: &mut BytesMut, value: usize) {
    word(out, itoa::Buffer::new().format(value).as_bytes());
}

fn number(out: &mut BytesMut, value: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(END);
}

/// Takes the first reply off `inbox`; none while it is not whole.
///
/// # Errors
/// It can never become a reply.
pub(super) fn read(inbox: &mut BytesMut) -> Result<Option<Reply>, Foreign> {
    let Some(line) = inbox.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if inbox.len() < MAX_LINE { Ok(None) } else { Err(Foreign) };
    };
    let text = inbox.get(1..line).and_then(|text| text.strip_suffix(b"\r")).ok_or(Foreign)?;
    let reply = match inbox.first() {
        Some(b'+' | b':') => Reply::Done,
        Some(b'-') => Reply::Error(String::from_utf8_lossy(text).into_owned()),
        Some(b'$') => return bulk(inbox, line + 1),
        _ => return Err(Foreign),
    };
    inbox.advance(line + 1);
    Ok(Some(reply))
}

/// Bytes whose length the line before `start` says. A script of ours never answers nil, whose length is -1.
fn bulk(inbox: &mut BytesMut, start: usize) -> Result<Option<Reply>, Foreign> {
    let length = inbox.get(1..start - END.len()).and_then(|text| std::str::from_utf8(text).ok());
    let length: usize = length.and_then(|text| text.parse().ok()).ok_or(Foreign)?;
    if length > MAX_BULK {
        return Err(Foreign);
    }
    let end = start + length;
    match inbox.get(end..end + END.len()) {
        None => Ok(None),
        Some(END) => {
            inbox.advance(start);
            let bytes = inbox.split_to(length).freeze();
            inbox.advance(END.len());
            Ok(Some(Reply::Bulk(bytes)))
        }
        Some(_) => Err(Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Reply>, Foreign> {
        let (mut inbox, mut found) = (BytesMut::from(bytes), Vec::new());
        while let Some(reply) = read(&mut inbox)? {
            found.push(reply);
        }
        Ok(found)
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = BytesMut::new();
        command(&mut out, 3);
        word(&mut out, b"EVALSHA");
        word(&mut out, b"");
        word_of(&mut out, 12);
        assert_eq!(&out[..], b"*3\r\n$7\r\nEVALSHA\r\n$0\r\n\r\n$2\r\n12\r\n");
    }

    #[test]
    fn replies_are_read_whatever_pieces_they_come_in() {
        let wire = b"+OK\r\n$4\r\na\r\nb\r\n:7\r\n$0\r\n\r\n-NOSCRIPT No matching script.\r\n";
        let expected = [
            Reply::Done,
            Reply::Bulk(Bytes::from_static(b"a\r\nb")),
            Reply::Done,
            Reply::Bulk(Bytes::new()),
            Reply::Error("NOSCRIPT No matching script.".to_owned()),
        ];
        assert_eq!(all(wire).unwrap(), expected);
        let (mut inbox, mut found) = (BytesMut::new(), Vec::new());
        for byte in wire {
            inbox.extend_from_slice(&[*byte]);
            found.extend(read(&mut inbox).unwrap());
        }
        assert_eq!(found, expected);
        assert!(inbox.is_empty());
    }

    #[test]
    fn what_is_no_reply_of_ours_is_an_error_and_not_waited_for() {
        for bad in [
            &b"*1\r\n$1\r\na\r\n"[..],
            b"$-1\r\n",
            b"$1048577\r\n",
            b"$99999999999999999999\r\n",
            b"$x\r\n",
            b"$1\r\nab\r\n",
            b"$\r\n",
            b"\n",
            b"\r\n",
            b"+OK\n",
            b"HTTP/1.1 400 Bad Request\r\n",
        ] {
            assert_eq!(all(bad), Err(Foreign), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(all(&[b'+'; MAX_LINE]), Err(Foreign));
        assert_eq!(all(b"$4\r\nab"), Ok(Vec::new()));
    }
}
