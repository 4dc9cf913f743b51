#![no_main]
libfuzzer_sys::fuzz_target!(
    // Before libFuzzer starts threads of its own: LeakSanitizer has to reach them.
    init: netring_fuzz::config::give_up_privileges(),
    |data: &[u8]| netring_fuzz::config::target(data)
);
