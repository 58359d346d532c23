// WordPiece with BERT's rules, as electra_jax/browser/wordpiece_rules.py tabulates them. Places count characters (code
// points) of the text, as in electra_jax.load(…).detect.

const FIRST_SYLLABLE = 0xac00;
const SYLLABLES = 11172;

// The characters of a text; halves of surrogate pairs, which are no characters, are replaced.
export function characters(text) {
  return Array.from(text, (character) => {
    const code = character.codePointAt(0);
    return code >= 0xd800 && code <= 0xdfff ? "\ufffd" : character;
  });
}

class Characters {
  // ranges: first and last code of each run, in their order.
  constructor(ranges) {
    this.ranges = ranges;
  }

  has(character) {
    const code = character.codePointAt(0);
    let low = 0;
    let high = this.ranges.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (code > this.ranges[2 * middle + 1]) low = middle + 1;
      else if (code < this.ranges[2 * middle]) high = middle;
      else return true;
    }
    return false;
  }
}

export class Tokenizer {
  constructor(tables) {
    this.vocabulary = tables.vocabulary;
    this.ids = new Map();
    this.longestPiece = 0;
    tables.vocabulary.forEach((piece, id) => {
      if (piece === null) return;
      this.ids.set(piece, id);
      this.longestPiece = Math.max(this.longestPiece, piece.length);
    });
    this.unknown = tables.unknown;
    this.cls = tables.cls;
    this.sep = tables.sep;
    this.continuation = tables.continuation;
    this.longestWord = tables.longest_word;
    this.bySyllables = tables.syllables;
    this.mapped = new Map(Object.entries(tables.mapped));
    for (const name of ["dropped", "apart", "blanks", "punctuation", "trimmed", "accents"]) {
      this[name] = new Characters(tables[name]);
    }
  }

  // The tokens of a text: {ids, starts, ends}, arrays of equal length.
  encode(text) {
    const given = characters(text);
    const tokens = { ids: [], starts: [], ends: [] };
    for (const word of this.words(given)) this.addPieces(word, tokens);
    this.tighten(given, tokens);
    return tokens;
  }

  // Whether a token continues the word of the token before it.
  continues(id) {
    return (this.vocabulary[id] ?? "").startsWith(this.continuation);
  }

  normalized(character) {
    if (this.dropped.has(character)) return "";
    if (this.apart.has(character)) return ` ${character} `;
    const mapped = this.mapped.get(character);
    if (mapped !== undefined) return mapped;
    const syllable = character.codePointAt(0) - FIRST_SYLLABLE;
    if (!this.bySyllables || syllable < 0 || syllable >= SYLLABLES) return character;
    const last = syllable % 28;
    const letters = [0x1100 + Math.floor(syllable / 588), 0x1161 + Math.floor((syllable % 588) / 28)];
    return String.fromCharCode(...letters, ...(last ? [0x11a7 + last] : []));
  }

  // Yields the words, each as its characters and the place that each of them has in the text.
  *words(given) {
    let word = { characters: [], places: [] };
    for (let place = 0; place < given.length; place++) {
      for (const character of this.normalized(given[place])) {
        const isPunctuation = this.punctuation.has(character);
        if ((isPunctuation || this.blanks.has(character)) && word.characters.length) {
          yield word;
          word = { characters: [], places: [] };
        }
        if (isPunctuation) yield { characters: [character], places: [place] };
        else if (!this.blanks.has(character)) {
          word.characters.push(character);
          word.places.push(place);
        }
      }
    }
    if (word.characters.length) yield word;
  }

  // The longest piece first; a word that pieces cannot spell is unknown.
  addPieces(word, tokens) {
    const length = word.characters.length;
    const found = [];
    for (let start = 0; length <= this.longestWord && start < length; ) {
      let end = Math.min(length, start + this.longestPiece);
      let id;
      for (; end > start; end--) {
        const piece = word.characters.slice(start, end).join("");
        id = this.ids.get(start ? this.continuation + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) break;
      found.push([id, start, end]);
      start = end;
    }
    const isSpelled = found.length && found[found.length - 1][2] === length;
    for (const [id, start, end] of isSpelled ? found : [[this.unknown, 0, length]]) {
      tokens.ids.push(id);
      tokens.starts.push(word.places[start]);
      tokens.ends.push(word.places[end - 1] + 1);
    }
  }

  // Trims blanks off the tokens, and extends them over accents that follow and have no piece: offsets.py, in Python.
  tighten(given, tokens) {
    const length = given.length;
    const nextWord = new Array(length + 1).fill(length);
    const nextLetter = new Array(length + 1).fill(length);
    const lastWord = new Array(length + 1).fill(0);
    for (let place = length - 1; place >= 0; place--) {
      nextWord[place] = this.trimmed.has(given[place]) ? nextWord[place + 1] : place;
      nextLetter[place] = this.accents.has(given[place]) ? nextLetter[place + 1] : place;
    }
    for (let place = 0; place < length; place++) {
      lastWord[place + 1] = this.trimmed.has(given[place]) ? lastWord[place] : place + 1;
    }
    const { starts, ends } = tokens;
    for (let token = 0; token < starts.length; token++) {
      starts[token] = Math.min(nextWord[starts[token]], ends[token]);
      ends[token] = Math.max(lastWord[ends[token]], starts[token]);
    }
    for (let token = 0; token < starts.length; token++) {
      const nextPiece = token + 1 < starts.length ? starts[token + 1] : length;
      if (ends[token] > starts[token]) ends[token] = Math.max(ends[token], Math.min(nextLetter[ends[token]], nextPiece));
    }
  }
}

// The first text of a list of {text, ids, starts, ends} that is not divided as it says; undefined if there is none.
export function firstDifference(tokenizer, checks) {
  return checks.find((check) => {
    const found = tokenizer.encode(check.text);
    return ["ids", "starts", "ends"].some((name) => found[name].join() !== check[name].join());
  });
}
