#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pxe_fuzz::targets::kubernetes_answer(data));
