//! The calls of the SDKs.
