//! Bytes as the text of `tcpdump -ddd`. What is accepted means the numbers that
//! stand there, printed and read again it is the same program, and it is one
//! that Linux takes; what is refused says where and why.

use netring::error::Kind;
use netring::ffi::error::{NETRING_EFILTER, netring_error};
use netring::ffi::filter::{netring_filter_count, netring_filter_free, netring_filter_new_ddd};
use netring::filter::ddd::{MAX_TEXT, parse};
use netring::filter::{Instruction, MAX_INSTRUCTIONS, Program};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// The program as tcpdump prints it, lines or commas.
fn print(program: &Program, separator: &str) -> String {
    let lines = program.instructions().iter();
    let lines = lines.map(|i| format!("{} {} {} {}", i.code, i.jt, i.jf, i.k));
    std::iter::once(program.len().to_string()).chain(lines).collect::<Vec<_>>().join(separator)
}

/// The numbers that stand in the text, whatever is between them.
fn numbers(text: &[u8]) -> Vec<u64> {
    let words = text.split(|byte| !byte.is_ascii_digit()).filter(|word| !word.is_empty());
    words.map(|word| std::str::from_utf8(word).unwrap().parse().unwrap_or(u64::MAX)).collect()
}

pub fn target(data: &[u8]) {
    let parsed = parse(data);
    match &parsed {
        Ok(program) => {
            let all = program.instructions();
            let flat =
                all.iter().flat_map(|i| [u64::from(i.code), i.jt.into(), i.jf.into(), i.k.into()]);
            let expected: Vec<u64> = std::iter::once(all.len() as u64).chain(flat).collect();
            assert_eq!(numbers(data), expected, "other numbers than those of the text");
            let separators = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
            assert!(data.iter().all(|byte| byte.is_ascii_digit() || separators(byte)));
            assert!((1..=MAX_INSTRUCTIONS).contains(&all.len()));
            for separator in ["\n", ",", " \r\n", ", "] {
                let again = parse(print(program, separator) + separator);
                assert_eq!(again.as_ref().ok(), Some(program), "printed with {separator:?}");
            }
            assert_eq!(Program::new(all).as_ref().ok(), Some(program), "validate refuses it");
            assert_eq!(program.to_string().lines().count(), all.len());
        }
        Err(error) => {
            assert_eq!(error.kind, Kind::Filter);
            assert!(["text", "program"].contains(&&*error.option), "{}", error.option);
            assert!(error.message.len() < 512 && error.message.is_ascii(), "{error}");
            assert!(!error.message.contains('\0'));
            if error.option == "program" {
                refused_as_a_program(data);
            }
        }
    }
    through_c(data, parsed.as_ref().ok());
}

/// Four times as many numbers as the first says, and validate refuses them.
fn refused_as_a_program(data: &[u8]) {
    let all = numbers(data);
    let (count, rest) = all.split_first().expect("a count");
    assert_eq!(rest.len() as u64, 4 * count);
    assert!(data.len() <= MAX_TEXT);
    let instruction =
        |n: &[u64]| Instruction::new(n[0] as u16, n[1] as u8, n[2] as u8, n[3] as u32);
    let program: Vec<_> = rest.chunks_exact(4).map(instruction).collect();
    assert!(Program::new(&program).is_err(), "a program that validate takes");
}

fn through_c(data: &[u8], expected: Option<&Program>) {
    // No NUL behind it, and nothing to read.
    let text = data.to_vec().into_boxed_slice();
    let mut filter = null_mut();
    let mut error = MaybeUninit::<netring_error>::uninit();
    // SAFETY: as many bytes as it says.
    let rc = unsafe {
        netring_filter_new_ddd(
            text.as_ptr().cast(),
            text.len(),
            &raw mut filter,
            error.as_mut_ptr(),
        )
    };
    // SAFETY: always fully written; integers.
    let error = unsafe { error.assume_init() };
    assert_eq!(error.code, rc);
    assert_eq!(error.reserved, [0; 7]);
    match expected {
        Some(program) => {
            assert_eq!(rc, 0);
            // SAFETY: any value is checked.
            assert_eq!(unsafe { netring_filter_count(filter) } as usize, program.len());
            // SAFETY: as above.
            assert_eq!(unsafe { netring_filter_free(filter) }, 0);
        }
        None => {
            assert_eq!(rc, NETRING_EFILTER);
            assert!(filter.is_null(), "written in spite of the error");
        }
    }
}
