// Pure modules of the explorer: node --test tests/explorer/unit
import assert from 'node:assert/strict';
import { test } from 'node:test';

const explorer = new URL('../../../client/explorer/', import.meta.url);
const { TABLE, indexOf, rangeOf } = await import(new URL('colours.js', explorer));
const { bytes, digits, largestKey, sentence, time, topKeys } = await import(new URL('describe.js', explorer));
const { hashedEmbeddings, shuffledOrder } = await import(new URL('seeds.js', explorer));
const { DEFAULTS, asksAnew, fromFragment, toFragment } = await import(new URL('state.js', explorer));
const { floatsOf, makeTensor, permuteRows, readNpy } = await import(new URL('tensors.js', explorer));

const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
// Machado, Oliveira & Fernandes 2009, severity 1, on linear light.
const BLINDNESS = {
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

test('the scale grows brighter at every step', () => {
  for (let i = 1; i < TABLE.length; ++i) assert.ok(luminance(TABLE[i]) >= luminance(TABLE[i - 1]), `step ${i}`);
});

for (const [name, matrix] of Object.entries(BLINDNESS)) {
  test(`the scale grows brighter with ${name}, too`, () => {
    const seen = TABLE.map((colour) =>
      matrix.map((row) => row.reduce((sum, factor, i) => sum + factor * linear(colour[i]), 0)),
    );
    const bright = seen.map(([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b);
    for (let i = 8; i < bright.length; i += 8) assert.ok(bright[i] > bright[i - 8], `step ${i}`);
  });
}

test('values beyond the range take its ends', () => {
  assert.deepEqual([indexOf(-1, 0, 1), indexOf(0.5, 0, 1), indexOf(2, 0, 1), indexOf(3, 3, 3)], [0, 128, 255, 255]);
});

test('ranges leave out what may not be looked at', () => {
  assert.deepEqual(rangeOf(Float32Array.of(-Infinity, -1, 4), 'biased'), { low: -1, high: 4 });
  assert.deepEqual(rangeOf(Float32Array.of(0.2, 0.8), 'weights'), { low: 0, high: 1 });
  const long = new Float32Array(512 * 512).fill(0.001);
  long[7] = 0.4;
  const { high, beyond } = rangeOf(long, 'weights');
  assert.ok(high < 0.01 && beyond);
});

test('a state goes into the fragment and back', () => {
  assert.equal(toFragment(DEFAULTS), '');
  const state = { ...DEFAULTS, source: 'text', text: 'a & b = c # d', causal: true, row: 3, zoom: '1,2,3,4' };
  assert.deepEqual(fromFragment(toFragment(state)), state);
  assert.deepEqual(fromFragment('#__proto__=1&row=x&nothing=2'), { ...DEFAULTS });
});

test('what is not among the choices is the default', () => {
  assert.deepEqual(fromFragment('#stage=bogus&position=__proto__&source=toString&view=x'), { ...DEFAULTS });
});

test('numbers of a link are whole, and a head is a number, the mean or all', () => {
  assert.deepEqual(fromFragment('#row=1.5&depth=0.5&lengths=-1&width=1e400&cargo=-3&heads=&window=x&head=1.5'), { ...DEFAULTS });
  assert.deepEqual(fromFragment('#window=99999999999999999999&heads=99999999999'), { ...DEFAULTS });
  assert.deepEqual(fromFragment('#row=-1&head=__proto__'), { ...DEFAULTS });
  const given = { row: 2, window: '3', head: 'all', seed: '7' };
  assert.deepEqual(fromFragment('#row=2&window=3&head=all&seed=7'), { ...DEFAULTS, ...given });
});

test('a seed is a uint64 with all its digits', () => {
  for (const seed of ['0', '9007199254740993', '18446744073709551615'])
    assert.equal(fromFragment(toFragment({ ...DEFAULTS, seed })).seed, seed);
  for (const seed of ['18446744073709551616', '-1', '1.5', '1e3', '007', ''])
    assert.equal(fromFragment(`#seed=${seed}`).seed, DEFAULTS.seed);
});

test('only what changes the request asks anew', () => {
  const with_ = (change, long = false) => asksAnew(DEFAULTS, { ...DEFAULTS, ...change }, long);
  assert.equal(with_({ row: 3 }), false);
  assert.equal(with_({ head: '1' }), false);
  assert.equal(with_({ stage: 'scaled' }), true);
  assert.equal(with_({ head: '1' }, true), true);
});

test('equal words have equal vectors of the declared law, others not', () => {
  const values = hashedEmbeddings(['dog', 'cat', 'Dog'], 4096);
  const row = (i) => values.subarray(i * 4096, (i + 1) * 4096);
  assert.deepEqual(row(0), row(2));
  assert.notDeepEqual(row(0), row(1));
  const mean = row(0).reduce((sum, v) => sum + v, 0) / 4096;
  const variance = row(0).reduce((sum, v) => sum + v * v, 0) / 4096;
  assert.ok(Math.abs(mean) < 0.1 && Math.abs(variance - 1) < 0.1);
});

test('an order is a permutation, and 0 leaves it alone', () => {
  assert.deepEqual(shuffledOrder(4, 0), [0, 1, 2, 3]);
  const order = shuffledOrder(100, 5);
  assert.deepEqual(
    [...order].sort((a, b) => a - b),
    shuffledOrder(100, 0),
  );
  assert.notDeepEqual(order, shuffledOrder(100, 6));
});

test('tensors keep their bits', () => {
  const tensor = makeTensor([3, 2], Float32Array.of(0.1, -0, 1e-40, 3, 4, 5));
  assert.deepEqual(floatsOf(tensor), Float32Array.of(0.1, -0, 1e-40, 3, 4, 5));
  assert.deepEqual(floatsOf(permuteRows(tensor, [2, 0, 1])), Float32Array.of(4, 5, 0.1, -0, 1e-40, 3));
});

function npy(header, floats) {
  const text = `${header}\n`;
  const bytes = new Uint8Array(10 + text.length + floats.byteLength);
  bytes.set([0x93, ...Buffer.from('NUMPY'), 1, 0, text.length, 0]);
  bytes.set(Buffer.from(text), 10);
  bytes.set(new Uint8Array(floats.buffer), 10 + text.length);
  return bytes.buffer;
}

test('a .npy file is read, and refused with a reason', () => {
  const floats = Float32Array.of(1, 2, 3, 4, 5, 6);
  const header = (kind, fortran, shape) => `{'descr': '${kind}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`;
  assert.deepEqual(readNpy(npy(header('<f4', 'False', '(2, 3)'), floats)).shape, ['2', '3']);
  assert.deepEqual(readNpy(npy(header('<f4', 'False', '(6,)'), floats)).shape, ['6']);
  assert.throws(() => readNpy(npy(header('<f8', 'False', '(3,)'), floats)), /float32/);
  assert.throws(() => readNpy(npy(header('<f4', 'True', '(2, 3)'), floats)), /Fortran/);
  assert.throws(() => readNpy(npy(header('<f4', 'False', '(2, 4)'), floats)), /cut off/);
  const whole = npy(header('<f4', 'False', '(2, 3)'), floats);
  assert.throws(() => readNpy(whole.slice(0, -1)), /cut off: 23 bytes of numbers, its shape needs 24/);
  assert.throws(() => readNpy(npy(header('<f4', 'False', '(5,)'), floats)), /4 bytes more than its shape needs/);
  assert.throws(() => readNpy(whole.slice(0, 9)), /within its header/);
  assert.throws(() => readNpy(new ArrayBuffer(3)), /not a .npy file/);
});

test('rows are put into words', () => {
  const labels = ['a', 'b', 'c'];
  const scene = {
    stage: 'weights',
    keys: 3,
    view: { keys: 3 },
    digits,
    rowLabel: (i) => labels[i],
    keyLabel: (i) => labels[i],
  };
  const map = { columns: 3, values: Float32Array.of(0.1, 0.8, 0.1, 0, 0, 0) };
  assert.equal(sentence(scene, map, 0).text, 'a attends most to b (0.80)');
  assert.equal(sentence(scene, map, 1).text, 'b may look at nothing');
  assert.equal(largestKey(Float32Array.of(-Infinity, -Infinity)), -1);
  assert.deepEqual(topKeys(Float32Array.of(1, 3, 3, -Infinity), 3), [1, 2, 0]);
});

test('bytes and times are short', () => {
  assert.deepEqual(['0', '1023', '1536', '134217728'].map(bytes), ['0 B', '1023 B', '1.5 KiB', '128 MiB']);
  assert.deepEqual(['0.000012s', '0.0034s', '0.25s', '1.5s', undefined].map(time), [
    '12 µs',
    '3.4 ms',
    '250 ms',
    '1.50 s',
    '0 µs',
  ]);
});
