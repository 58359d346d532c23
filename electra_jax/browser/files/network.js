// The network, computed by onnxruntime-web in this page, on one processor.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.js";

const NETWORK = "model.onnx";
const WASM = "onnxruntime/ort-wasm-simd-threaded.wasm";

// Fetches the network and its runtime, and makes a session of them.
// sizes: bytes of both files by name; progress: called with the share of them that has arrived.
export async function open(sizes, progress) {
  const total = sizes[NETWORK] + sizes[WASM];
  let arrived = 0;
  const fetched = (name) =>
    contentOf(name, sizes[name], (count) => {
      arrived += count;
      progress(Math.min(arrived / total, 1));
    });
  const [network, wasm] = await Promise.all([fetched(NETWORK), fetched(WASM)]);
  ort.env.logLevel = "error";
  // Several threads would need SharedArrayBuffer, which a browser only gives to pages with certain headers.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasm.buffer;
  return ort.InferenceSession.create(network, { executionProviders: ["wasm"] });
}

// The content of a file of the page, an Uint8Array.
async function contentOf(name, size, progress) {
  const response = await fetch(name, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status} ${response.statusText}`);
  const content = new Uint8Array(size);
  const reader = response.body.getReader();
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > size) throw new Error(`${name}: is longer than its ${size} bytes; write the page again`);
    content.set(value, filled);
    filled += value.length;
    progress(value.length);
  }
  if (filled !== size) throw new Error(`${name}: ${filled} of its ${size} bytes arrived; load the page again`);
  return content;
}

// The logits of a row, an array of numbers.
export async function logitsOf(session, row) {
  const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  const given = {
    input_ids: tensor(row.ids),
    attention_mask: tensor(row.ids.map(() => 1)),
    token_type_ids: tensor(row.segments),
  };
  const { logits } = await session.run(given, ["logits"]);
  return Array.from(logits.data);
}
