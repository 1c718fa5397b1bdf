//! Fuzz targets for everything in pxed that reads bytes from outside. Each target is a function of bytes that panics
//! when pxed does, or when what pxed makes of the bytes is not sound.

pub mod targets;
