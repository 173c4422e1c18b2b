//! The words of the transcripts: inputs read, outputs written.

mod read;
mod write;

pub use read::parse;
pub use write::show;
