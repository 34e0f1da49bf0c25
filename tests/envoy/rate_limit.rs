//! RLS.
