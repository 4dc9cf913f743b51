//! Classic BPF filter programs: validated, read from text, run in user space.
