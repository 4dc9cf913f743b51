#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netring_fuzz::reader::target(data));
