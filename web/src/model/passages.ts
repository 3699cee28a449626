/** What a model said, cut into pieces that are shown differently. */

export interface Passage {
  text: string;
  /** A special token, `<|…|>`; a word that the other text does not have there. */
  kind: "plain" | "mark" | "differs";
}

/** A text cut at its special tokens. */
export function splitMarks(text: string): Passage[] {
  return text
    .split(/(<\|[^|<>]*\|>)/)
    .filter((part) => part !== "")
    .map((part) => ({ text: part, kind: /^<\|[^|<>]*\|>$/.test(part) ? "mark" : "plain" }));
}

/** More words than these are not compared: the table of all pairs would be too large. */
const MAX_WORDS = 400;
/** Texts that share less than this have nothing in common but chance; to mark every word would say nothing. */
const MIN_SHARED = 1 / 3;

export interface Comparison {
  said: Passage[];
  expected: Passage[];
  /** Word for word the same, but for case, punctuation and special tokens. */
  isSame: boolean;
}

/** Two texts with the words marked that the other one does not have in its place. */
export function compare(said: string, expected: string): Comparison {
  const here = splitWords(said);
  const there = splitWords(expected);
  const ours = here.flatMap(({ key }) => (key === "" ? [] : [key]));
  const theirs = there.flatMap(({ key }) => (key === "" ? [] : [key]));
  const isSame = ours.length > 0 && ours.join(" ") === theirs.join(" ");
  const [inOurs, inTheirs] = shared(ours, theirs);
  const isMarked = !isSame && inOurs.size >= MIN_SHARED * Math.max(ours.length, theirs.length, 1);
  return {
    said: passages(here, isMarked ? inOurs : null),
    expected: passages(there, isMarked ? inTheirs : null),
    isSame,
  };
}

interface Piece extends Passage {
  /** What is compared; empty for space, punctuation and marks. */
  key: string;
}

function splitWords(text: string): Piece[] {
  return splitMarks(text).flatMap((part): Piece[] =>
    part.kind === "mark"
      ? [{ ...part, key: "" }]
      : (part.text.match(/\s+|\S+/g) ?? []).map((word) => ({
          text: word,
          kind: "plain",
          key: word.toLowerCase().replace(/[^\p{L}\p{N}]/gu, ""),
        })),
  );
}

/** Neighbours of one kind become one passage. */
function passages(pieces: Piece[], sharedWords: Set<number> | null): Passage[] {
  const found: Passage[] = [];
  let word = -1;
  for (const { text, kind, key } of pieces) {
    if (key !== "") word += 1;
    const shown = key !== "" && sharedWords !== null && !sharedWords.has(word) ? "differs" : kind;
    const last = found[found.length - 1];
    if (last !== undefined && last.kind === shown && shown === "plain") last.text += text;
    else found.push({ text, kind: shown });
  }
  return found;
}

/** Positions, in each of two lists, of a longest common subsequence. */
function shared(ours: string[], theirs: string[]): [Set<number>, Set<number>] {
  const inOurs = new Set<number>();
  const inTheirs = new Set<number>();
  if (ours.length > MAX_WORDS || theirs.length > MAX_WORDS) return [inOurs, inTheirs];
  const width = theirs.length + 1;
  const longest = new Uint16Array((ours.length + 1) * width);
  const at = (i: number, j: number) => longest[i * width + j] ?? 0;
  for (let i = ours.length - 1; i >= 0; i--) {
    for (let j = theirs.length - 1; j >= 0; j--) {
      longest[i * width + j] =
        ours[i] === theirs[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  for (let i = 0, j = 0; i < ours.length && j < theirs.length; ) {
    if (ours[i] === theirs[j]) {
      inOurs.add(i++);
      inTheirs.add(j++);
    } else if (at(i + 1, j) >= at(i, j + 1)) i++;
    else j++;
  }
  return [inOurs, inTheirs];
}
