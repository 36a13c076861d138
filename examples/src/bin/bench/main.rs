//! Measures the layers.

fn main() {}
