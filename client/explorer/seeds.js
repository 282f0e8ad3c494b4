// Numbers from seeds: vectors of words that have no meaning, and orders of words.

const MASK = (1n << 64n) - 1n;

// SplitMix64, the generator of the contract's seeded tensors.
function* splitMix(seed) {
  let state = seed & MASK;
  for (;;) {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
    yield z ^ (z >> 31n);
  }
}

// FNV-1a over the word's letters, whatever their case.
export function hashOf(word) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(word.toLowerCase())) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & MASK;
  return hash;
}

// [words, width]: each row from the word's hash alone, so that equal words have equal rows. The law of SeededEmbeddings.
export function hashedEmbeddings(words, width) {
  const values = new Float32Array(words.length * width);
  words.forEach((word, row) => {
    const numbers = splitMix(hashOf(word));
    for (let i = 0; i < width; ++i) {
      const u = Number(numbers.next().value >> 40n) * 2 ** -23 - 1;
      values[row * width + i] = u * Math.sqrt(3);
    }
  });
  return values;
}

// A permutation; seed 0 is the order as it is.
export function shuffledOrder(count, seed) {
  const order = Array.from({ length: count }, (_, i) => i);
  if (!seed) return order;
  const numbers = splitMix(BigInt(seed));
  for (let i = count - 1; i > 0; --i) {
    const j = Number(numbers.next().value % BigInt(i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
