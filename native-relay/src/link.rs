//! Links: the ways in which messages of core reach another node.

pub mod direct;
