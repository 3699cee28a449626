/** Which options the form shows up front, in which order; everything else stands under "All options". */

export interface Group {
  title: string;
  paths: { path: string; label: string }[];
}

const field = (path: string, label: string) => ({ path, label });

export const GROUPS: Group[] = [
  {
    title: "Length and learning",
    paths: [
      field("training.max_steps", "Steps"),
      field("training.learning_rate", "Learning rate"),
      field("training.gradient_accumulation_steps", "Micro-batches"),
      field("training.seed", "Seed"),
    ],
  },
  {
    title: "Every how many steps",
    paths: [
      field("training.logging_steps", "Metrics"),
      field("training.eval_steps", "Evaluation"),
      field("training.sample_steps", "Samples"),
      field("training.save_steps", "Checkpoint"),
    ],
  },
];

/** What an option does that is left empty, in a word. */
export function emptyWord(path: string): string {
  return /^(modalities\.\w+\.weight|resources\.\w+)$/.test(path) ? "auto" : "none";
}

/** Options of one modality that the form shows up front. */
export const MODALITY_FIELDS = [
  field("weight", "Weight"),
  field("batch_size", "Batch size"),
  field("loss_weight", "Loss weight"),
];
