//! Toolsets around toolsets, one module each.
//!
//! From the outside in: [`Policed`] decides, [`Limited`] bounds, [`Combined`] joins several
//! toolsets under one list. [`Faulty`] goes innermost, where the network is. A policy outside a `Combined` sees the namespaced names.

mod combined;
mod faulty;
mod limited;
mod policed;

pub use combined::Combined;
pub use faulty::Faulty;
pub use limited::Limited;
pub use policed::Policed;
