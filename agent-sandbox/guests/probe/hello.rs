//! The smallest useful guest: one line out, exit code 0.

fn main() {
    println!("hello from a guest");
}
