#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netring_fuzz::filter_program::target(data));
