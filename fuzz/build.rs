//! Compiles the inline walk of include/netring_inline.h.

fn main() {
    println!("cargo::rerun-if-changed=src/walk.c");
    println!("cargo::rerun-if-changed=../include");
    cc::Build::new().file("src/walk.c").include("../include").std("gnu11").compile("walk");
}
