//! Hashed word features: a vector that says which words a text has, without a model and without a vocabulary.
//!
//! Each word is hashed, and the hash chooses one of the dimensions. Texts that share words get similar vectors, and that is
//! all: nothing here understands anything. It stands in for the model that a real pipeline would call.

/// How many numbers a vector has.
const DIMENSIONS: usize = 128;

/// The vector of a text, of length 1.
pub fn features(text: &str) -> Vec<f32> {
    let mut counts = [0_u32; DIMENSIONS];
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty());
    words.for_each(|word| counts[place(word)] += 1);
    if counts.iter().all(|count| *count == 0) {
        counts[place(text)] = 1; // without a word it is one itself
    }
    let length = counts.iter().map(|count| f64::from(*count).powi(2)).sum::<f64>().sqrt();
    counts.iter().map(|count| (f64::from(*count) / length) as f32).collect()
}

/// The dimension of a word.
fn place(word: &str) -> usize {
    (hash(&word.to_lowercase()) % DIMENSIONS as u64) as usize
}

/// FNV-1a: the same in every process, unlike the standard library's.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
