// Texts → the row that the network reads, and its logits → results, as in electra_jax.inference.

// [CLS] text [SEP], or [CLS] text [SEP] text [SEP] with the second text in segment 1, in at most `longest` tokens.
// tokens: for each text what Tokenizer.encode gives.
export function rowOf(tokens, tokenizer, longest) {
  const lengths = tokens.map(({ ids }) => ids.length);
  const kept = fitting(lengths, longest - 1 - lengths.length);
  const ids = [tokenizer.cls];
  const segments = [0];
  tokens.forEach((text, number) => {
    ids.push(...text.ids.slice(0, kept[number]), tokenizer.sep);
    while (segments.length < ids.length) segments.push(number);
  });
  const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
  return { ids, segments, kept, leftOut: sum(lengths) - sum(kept) };
}

// Tokens that are kept of each text: the longer one loses its last until they fit, on a tie the second.
function fitting(lengths, room) {
  if (lengths.length === 1) return [Math.min(lengths[0], room)];
  const kept = [...lengths];
  while (kept[0] + kept[1] > room) kept[kept[0] > kept[1] ? 0 : 1]--;
  return kept;
}

// The words of a text with the probability that each was replaced, the largest of its tokens', and what stands between
// them: [{text, isWord, probability, pieces: [{start, end, probability}]}].
export function wordsOf(characters, tokens, kept, logits, tokenizer) {
  const parts = [];
  let end = 0;
  const between = (start) => {
    if (start > end) parts.push({ text: characters.slice(end, start).join(""), isWord: false });
    end = Math.max(end, start);
  };
  for (let token = 0; token < kept; token++) {
    // [CLS] has the first logit.
    const piece = { start: tokens.starts[token], end: tokens.ends[token], probability: logistic(logits[token + 1]) };
    const last = parts[parts.length - 1];
    if (last?.isWord && tokenizer.continues(tokens.ids[token])) {
      last.pieces.push(piece);
      last.probability = Math.max(last.probability, piece.probability);
      end = Math.max(end, piece.end);
      last.text = characters.slice(last.pieces[0].start, end).join("");
    } else {
      between(piece.start);
      // One character may have several tokens, such as a Korean syllable whose letters have no common piece.
      const text = characters.slice(end, piece.end).join("");
      if (!text && last?.isWord) {
        last.pieces.push(piece);
        last.probability = Math.max(last.probability, piece.probability);
      } else {
        parts.push({ text, isWord: true, probability: piece.probability, pieces: [piece] });
        end = Math.max(end, piece.end);
      }
    }
  }
  between(characters.length);
  return parts;
}

export function logistic(logit) {
  return 1 / (1 + Math.exp(-logit));
}

// Probabilities of classes that exclude each other.
export function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const total = powers.reduce((sum, each) => sum + each, 0);
  return powers.map((power) => power / total);
}
