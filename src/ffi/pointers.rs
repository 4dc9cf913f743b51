//! Pointers from C: every one is checked before it is used.

use crate::error::{Error, Result};
use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, align_of, size_of};

/// Longest structure taken from or given to C: a larger size is a mistake.
const LONGEST: usize = 4096;

/// Shortest structure: more than a pointer has, so that `sizeof pointer` is
/// refused.
pub(crate) const SHORTEST: usize = 16;

/// Structs that C may fill byte by byte: `repr(C)`, no padding, and every bit
/// pattern is a value.
///
/// # Safety
/// Implement it only for such types.
pub(crate) unsafe trait CStruct: Copy {}

#[inline]
fn checked<T>(pointer: *const T, name: &'static str) -> Result<()> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(wrong_pointer(pointer.is_null(), align_of::<T>(), name));
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn wrong_pointer(null: bool, alignment: usize, name: &'static str) -> Error {
    if null {
        return Error::config(name, format!("{name} is NULL"));
    }
    Error::config(name, format!("{name} is not aligned to {alignment} bytes"))
}

/// Writes a value the caller asked for.
///
/// # Safety
/// `out`, if not NULL, is writable for a T.
pub(crate) unsafe fn put<T>(out: *mut T, name: &'static str, value: T) -> Result<()> {
    checked(out, name)?;
    // SAFETY: not NULL, aligned, writable by the caller's promise.
    unsafe { out.write(value) };
    Ok(())
}

/// Checks an output pointer before the work is done, so that a wrong one
/// leaves nothing half done.
pub(crate) fn writable<T>(out: *mut T, name: &'static str) -> Result<()> {
    checked(out, name)
}

/// Checks an input pointer.
#[inline]
pub(crate) fn readable<T>(from: *const T, name: &'static str) -> Result<()> {
    checked(from, name)
}

/// Checks a structure's output pointer and size before the work is done.
pub(crate) fn writable_sized<T: CStruct>(
    out: *mut T,
    name: &'static str,
    size: usize,
    least: usize,
) -> Result<()> {
    let least = least.max(SHORTEST);
    checked(out, name)?;
    if size < least || size > LONGEST {
        return Err(Error::config(
            "size",
            format!("size {size} is out of range: {least} to {LONGEST} bytes"),
        ));
    }
    Ok(())
}

/// Writes as much of `value` as the caller's structure of `size` bytes holds,
/// and zeros behind it. For what [`writable_sized`] has checked.
///
/// # Safety
/// `out` is writable for `size` bytes.
pub(crate) unsafe fn put_sized<T: CStruct>(out: *mut T, size: usize, value: &T) {
    if size == size_of::<T>() {
        // SAFETY: as many bytes are writable there. For arrays, cheaper than the rest.
        return unsafe { out.write_unaligned(*value) };
    }
    let both = size.min(size_of::<T>());
    // SAFETY: `both` bytes are readable there and writable here.
    unsafe { std::ptr::copy_nonoverlapping((&raw const *value).cast::<u8>(), out.cast(), both) };
    // SAFETY: `both <= size`, still inside the caller's structure.
    let rest = unsafe { out.cast::<u8>().add(both) };
    // SAFETY: what is left of `size` bytes.
    unsafe { rest.write_bytes(0, size - both) };
}

/// Reads a configuration, a structure that begins with its size and an init
/// word, over the defaults; NULL is the defaults. `object` is that of
/// `netring_<object>_config_init`.
///
/// # Safety
/// `config`, if not NULL, is readable for the size it says it has.
pub(crate) unsafe fn read_config<T: CStruct>(
    config: *const T,
    object: &str,
    init_word: u32,
    defaults: T,
) -> Result<T> {
    if config.is_null() {
        return Ok(defaults);
    }
    checked(config, "config")?;
    let words: *const u32 = config.cast();
    // SAFETY: not NULL, aligned; the first field, by the caller's promise.
    let size = unsafe { words.read() };
    // SAFETY: a structure has its first two fields.
    let second = unsafe { words.add(1) };
    // SAFETY: as above.
    let init = unsafe { second.read() };
    if init != init_word {
        return Err(Error::config(
            "init",
            format!(
                "config was never initialised: call netring_{object}_config_init, or start from \
                 NETRING_{}_CONFIG_INIT",
                object.to_ascii_uppercase()
            ),
        ));
    }
    // SAFETY: the caller's promise.
    unsafe { read_sized(config, "config", size as usize, defaults) }
}

/// Reads a structure of `size` bytes over `base`: an older, shorter one changes
/// only what it knows; in a newer, longer one everything unknown must be zero.
///
/// # Safety
/// `pointer`, if not NULL, is readable for `size` bytes.
pub(crate) unsafe fn read_sized<T: CStruct>(
    pointer: *const T,
    name: &'static str,
    size: usize,
    base: T,
) -> Result<T> {
    let least = SHORTEST;
    checked(pointer, name)?;
    if size < least || size > LONGEST {
        return Err(Error::config(
            "size",
            format!("{name} has size {size}, out of range: {least} to {LONGEST} bytes"),
        ));
    }
    let known = size_of::<T>();
    for at in known..size {
        // SAFETY: inside the caller's `size` bytes.
        let byte = unsafe { pointer.cast::<u8>().add(at) };
        // SAFETY: as above.
        if unsafe { byte.read() } != 0 {
            return Err(Error::config(
                "size",
                format!(
                    "{name} has size {size}, and byte {at} of it is not zero: this library knows \
                     {known} bytes and cannot do what a newer header asks for"
                ),
            ));
        }
    }
    let mut value = MaybeUninit::new(base);
    let both = size.min(known);
    // SAFETY: `both` bytes are readable there and writable here.
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast(), both);
    };
    // SAFETY: initialised from `base`; every pattern of a CStruct is a value.
    Ok(unsafe { value.assume_init() })
}

/// A NUL-terminated text.
///
/// # Safety
/// `text`, if not NULL, is NUL-terminated and lives through the call.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &'static str) -> Result<&'a CStr> {
    checked(text, name)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// An array of `count` elements; NULL only with none.
///
/// # Safety
/// `pointer`, if not NULL, is readable for `count` elements through the call.
pub(crate) unsafe fn array<'a, T>(
    pointer: *const T,
    count: usize,
    name: &'static str,
) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    checked(pointer, name)?;
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(Error::config(name, format!("{count} elements of {name} are too many")));
    }
    // SAFETY: not NULL, aligned, readable by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}
