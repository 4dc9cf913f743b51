//! Programs as text: what `tcpdump -ddd` prints, and the same on one line with
//! commas, as iptables takes it.

use super::instruction::Instruction;
use super::program::Program;
use super::validate::MAX_INSTRUCTIONS;
use crate::error::{Error, Kind, Result};

/// The longest text that is read: the longest program takes less.
pub const MAX_TEXT: usize = 128 * 1024;

/// How much of a wrong text an error shows, in bytes of the text.
const SHOWN: usize = 40;

const REMEDY: &str = "give the unchanged output of \"tcpdump -ddd\" (three d)";

/// Reads a program: the number of instructions, then as many times
/// `code jt jf k`, decimal, one a line or all on one line with commas.
///
/// CRLF, spaces around numbers and blank lines (or one comma) at the end are
/// fine; nothing else is.
pub fn parse(text: impl AsRef<[u8]>) -> Result<Program> {
    let text = text.as_ref();
    if text.len() > MAX_TEXT {
        return Err(refused(&format!(
            "the text has {} bytes, a program has at most {MAX_TEXT}; {REMEDY}",
            text.len()
        )));
    }
    let text = text.trim_ascii_end();
    let (separator, unit) = if text.contains(&b'\n') || !text.contains(&b',') {
        (b'\n', "line")
    } else {
        (b',', "item")
    };
    let text = if separator == b',' { text.strip_suffix(b",").unwrap_or(text) } else { text };
    let place = |index: usize| format!("{unit} {}", index.saturating_add(1));

    let mut parts = text.split(|b| *b == separator).enumerate();
    let first = parts.next().map_or(&[][..], |(_, part)| part);
    let count = match numbers::<1>(first) {
        Ok([count]) if (1..=MAX_INSTRUCTIONS as u64).contains(&count) => count,
        Ok([count]) => {
            return Err(refused(&format!(
                "{}: expected the number of instructions, 1 to {MAX_INSTRUCTIONS}, found {count}; \
                 {REMEDY}",
                place(0)
            )));
        }
        Err(()) => {
            return Err(refused(&format!(
                "{}: expected the number of instructions alone, found {}; {REMEDY}",
                place(0),
                shown(first)
            )));
        }
    };

    let mut program = Vec::new();
    for (index, part) in parts {
        if program.len() as u64 == count {
            return Err(refused(&format!(
                "{}: expected the end after the {count} instructions that {} announces, found \
                 {}; {REMEDY}",
                place(index),
                place(0),
                shown(part)
            )));
        }
        let Ok([code, jt, jf, k]) = numbers(part) else {
            return Err(refused(&format!(
                "{}: expected four decimal numbers \"code jt jf k\", found {}; {REMEDY}",
                place(index),
                shown(part)
            )));
        };
        let too_large = |name: &str, value: u64, most: u32| {
            refused(&format!(
                "{}: {name} is {value}, at most {most} is possible; {REMEDY}",
                place(index)
            ))
        };
        program.push(Instruction::new(
            u16::try_from(code).map_err(|_| too_large("code", code, u16::MAX.into()))?,
            u8::try_from(jt).map_err(|_| too_large("jt", jt, u8::MAX.into()))?,
            u8::try_from(jf).map_err(|_| too_large("jf", jf, u8::MAX.into()))?,
            u32::try_from(k).map_err(|_| too_large("k", k, u32::MAX))?,
        ));
    }
    if (program.len() as u64) < count {
        return Err(refused(&format!(
            "{} announces {count} instructions, but {} follow: the text is cut off; {REMEDY}",
            place(0),
            program.len()
        )));
    }
    Program::new(&program)
}

/// Exactly N decimal numbers with spaces between.
fn numbers<const N: usize>(part: &[u8]) -> std::result::Result<[u64; N], ()> {
    let mut out = [0; N];
    let mut words = part.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for slot in &mut out {
        *slot = number(words.next().ok_or(())?).ok_or(())?;
    }
    if words.next().is_some() { Err(()) } else { Ok(out) }
}

/// Digits only: no sign, no 0x.
fn number(word: &[u8]) -> Option<u64> {
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// A piece of wrong text, escaped and shortened for a message.
fn shown(part: &[u8]) -> String {
    let part = part.trim_ascii();
    match part.get(..SHOWN) {
        _ if part.is_empty() => "nothing".into(),
        Some(head) if part.len() > SHOWN => format!("\"{}...\"", head.escape_ascii()),
        _ => format!("\"{}\"", part.escape_ascii()),
    }
}

fn refused(reason: &str) -> Error {
    Error::new(Kind::Filter, "text", format!("filter refused: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &str = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n";

    fn refusal(text: impl AsRef<[u8]>) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind, Kind::Filter);
        assert_eq!(error.option, "text");
        assert!(error.message.len() < 512 && error.message.is_ascii(), "{error}");
        error.message
    }

    #[test]
    fn all_accepted_forms_are_the_same_program() {
        let program = parse(IP).unwrap();
        assert_eq!(program.len(), 4);
        assert_eq!(program.instructions()[1], Instruction::new(21, 0, 1, 2048));
        for text in [
            IP.trim_end().to_string(),
            IP.replace('\n', "\r\n"),
            IP.replace('\n', " \n  ").replace(' ', "  "),
            IP.replace(' ', "\t"),
            format!("{IP}\n\r\n  \n"),
            IP.trim_end().replace('\n', ","),
            IP.replace('\n', ","),
            IP.replace('\n', ", "),
            format!("{}\n", IP.trim_end().replace('\n', ",")),
        ] {
            assert_eq!(parse(&text).unwrap(), program, "{text:?}");
        }
        assert!(parse("1,6 0 0 4294967295").is_ok());
        assert!(parse("1\n6 0 0 1").is_ok());
    }

    #[test]
    fn refusals_say_where_and_what() {
        let too_many = format!("{IP}6 0 0 0\n");
        let junk = "\u{1F980}".repeat(50);
        for (text, words) in [
            ("", "line 1: expected the number of instructions alone, found nothing"),
            ("\n\n", "line 1: expected the number of instructions alone, found nothing"),
            ("tcp port 80", "found \"tcp port 80\"; give the unchanged output of \"tcpdump -ddd\""),
            ("0\n", "line 1: expected the number of instructions, 1 to 4096, found 0"),
            ("4097\n", "found 4097"),
            ("99999999999999999999\n", "found \"99999999999999999999\""),
            ("2\n6 0 0 1\n", "line 1 announces 2 instructions, but 1 follow"),
            ("1", "announces 1 instructions, but 0 follow"),
            (
                &too_many,
                "line 6: expected the end after the 4 instructions that line 1 announces, found \"6 0 0 0\"",
            ),
            (
                "1\n6 0 0\n",
                "line 2: expected four decimal numbers \"code jt jf k\", found \"6 0 0\"",
            ),
            ("1\n6 0 0 1 2\n", "found \"6 0 0 1 2\""),
            (
                "1\n\n6 0 0 1",
                "line 2: expected four decimal numbers \"code jt jf k\", found nothing",
            ),
            ("1\n6 0 0 -1", "found \"6 0 0 -1\""),
            ("1\n6 0 0 +1", "found \"6 0 0 +1\""),
            ("1\n6 0 0 0x1", "found \"6 0 0 0x1\""),
            ("1\n65536 0 0 1", "line 2: code is 65536, at most 65535"),
            ("1\n6 256 0 1", "line 2: jt is 256, at most 255"),
            ("1\n6 0 256 1", "jf is 256"),
            ("1\n6 0 0 4294967296", "k is 4294967296, at most 4294967295"),
            ("1,6 0 0", "item 2: expected four"),
            ("1,6 0 0 1,,", "item 3: expected the end"),
            ("1,\n6 0 0 1", "line 1: expected the number of instructions alone, found \"1,\""),
            ("(000) ldh      [12]\n(001) ret", "line 1: "),
            ("{ 0x28, 0, 0, 0x0000000c },\n", "item 1: "),
            (&junk, "\\xf0\\x9f\\xa6\\x80"),
            ("1\n6 0 0 1\0", "found \"6 0 0 1\\x00\""),
        ] {
            let message = refusal(text);
            assert!(message.contains(words), "{text:?}: {message}\n  lacks: {words}");
        }
        assert!(refusal(&junk).contains("...\""));
        assert!(refusal(b"1\n\xff\xfe 0 0 1").contains("\\xff\\xfe 0 0 1"));
        assert!(refusal(" ".repeat(MAX_TEXT + 1)).contains("131073 bytes"));
    }

    #[test]
    fn an_invalid_program_is_refused_as_a_program() {
        let error = parse("2\n21 0 9 1\n6 0 0 1\n").unwrap_err();
        assert_eq!((error.kind, &*error.option), (Kind::Filter, "program"));
    }

    #[test]
    fn the_longest_program_fits() {
        let mut text = format!("{MAX_INSTRUCTIONS}\n");
        for _ in 1..MAX_INSTRUCTIONS {
            text += "21 0 0 4294967295\r\n";
        }
        text += "6 0 0 4294967295\r\n";
        assert!(text.len() <= MAX_TEXT);
        assert_eq!(parse(text).unwrap().len(), MAX_INSTRUCTIONS);
    }
}
