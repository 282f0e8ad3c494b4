// Tensors of the contract, and .npy files.

function toBase64(bytes) {
  let text = '';
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

function fromBase64(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; ++i) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

export function makeTensor(shape, values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { shape: shape.map(String), f32Le: toBase64(bytes) };
}

export function floatsOf(tensor) {
  if (tensor.f32Values) return Float32Array.from(tensor.f32Values.values);
  return new Float32Array(fromBase64(tensor.f32Le).buffer);
}

export const shapeOf = (tensor) => tensor.shape.map(Number);

// Rows of a [T, E] tensor in another order.
export function permuteRows(tensor, order) {
  const [rows, width] = shapeOf(tensor);
  const from = floatsOf(tensor);
  const to = new Float32Array(rows * width);
  order.forEach((source, row) => to.set(from.subarray(source * width, (source + 1) * width), row * width));
  return makeTensor([rows, width], to);
}

// A float32 array saved by numpy, rank 1 to 4.
export function readNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (String.fromCharCode(...bytes.subarray(1, 6)) !== 'NUMPY') throw new Error('not a .npy file');
  const view = new DataView(buffer);
  const long = bytes[6] > 1;
  const begin = long ? 12 : 10;
  if (buffer.byteLength < begin) throw new Error('is cut off within its header');
  const end = begin + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder('latin1').decode(bytes.subarray(begin, end));
  const kind = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  if (kind !== '<f4') throw new Error(`holds ${kind ?? 'records'}, expected float32 ("<f4"): save with .astype("float32")`);
  if (/'fortran_order':\s*True/.test(header)) throw new Error('is in Fortran order: save np.ascontiguousarray(array)');
  const shape = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? '')
    .split(',')
    .map((n) => n.trim())
    .filter(Boolean)
    .map(Number);
  const [held, wanted] = [buffer.byteLength - end, 4 * shape.reduce((product, n) => product * n, 1)];
  if (held < wanted) throw new Error(`is cut off: ${held} bytes of numbers, its shape needs ${wanted}`);
  if (held > wanted) throw new Error(`has ${held - wanted} bytes more than its shape needs: save the array anew`);
  return makeTensor(shape, new Float32Array(buffer.slice(end)));
}
