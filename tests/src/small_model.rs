//! Another embedding model for tests: the real one with its vectors cut to fewer numbers.

use std::path::{Path, PathBuf};

use companion_adapters::parts;

/// The length of its vectors.
pub const DIMENSION: usize = 128;
/// Its name.
pub const NAME: &str = "test/all-MiniLM-L6-v2-cut-to-128";

/// What the model's last node gives; the same length, so that nothing else in the file moves.
const RESULT: &[u8] = b"last_hidden_state";
const UNCUT: &[u8] = b"full_hidden_state";
/// The last node lies before the weights, what is declared of the result in the last bytes.
const NODES_END: usize = 1 << 20;
const DECLARED_WITHIN: usize = 200;
/// Protocol Buffers: a dimension of 384, and one of 128.
const DIM_384: &[u8] = &[0x08, 0x80, 0x03];
const DIM_128: &[u8] = &[0x08, 0x80, 0x01];

/// Writes the model's files into a folder and returns it.
///
/// # Panics
/// When the real model was not fetched, or the folder can't be written.
#[must_use]
pub fn write(folder: &Path) -> PathBuf {
    let source = parts::minilm();
    for name in [
        "tokenizer.json",
        "config.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(source.join(name), folder.join(name)).expect(name);
    }
    let mut model = std::fs::read(source.join("model.onnx")).expect("the model was fetched");
    for _ in 0..2 {
        // The output and the name of the last node.
        let at = find(&model[..NODES_END], RESULT).expect("the last node");
        model[at..at + RESULT.len()].copy_from_slice(UNCUT);
    }
    let tail = model.len() - DECLARED_WITHIN;
    let at = tail + find(&model[tail..], DIM_384).expect("the declared result");
    model[at..at + DIM_384.len()].copy_from_slice(DIM_128);
    // A second part of the graph is merged with the first by whoever reads the file.
    model.extend(field(7, &cut()));
    std::fs::write(folder.join("model.onnx"), model).expect("written");
    folder.to_owned()
}

/// A node that cuts the result, with its constants.
fn cut() -> Vec<u8> {
    let mut node = Vec::new();
    for input in [UNCUT, b"cut_from", b"cut_to", b"cut_axis"] {
        node.extend(field(1, input));
    }
    node.extend(field(2, RESULT));
    node.extend(field(3, b"cut"));
    node.extend(field(4, b"Slice"));
    let mut graph = field(1, &node);
    let constants = [("cut_from", 0), ("cut_to", 128i64), ("cut_axis", 2)];
    for (name, value) in constants {
        // dims = [1], data_type = INT64.
        let mut tensor = vec![0x08, 1, 0x10, 7];
        tensor.extend(field(8, name.as_bytes()));
        tensor.extend(field(9, &value.to_le_bytes()));
        graph.extend(field(5, &tensor));
    }
    graph
}

/// A field of Protocol Buffers with bytes in it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        out.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or(0));
    out.extend(bytes);
    out
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}
