import { fieldAt, type JsonSchema } from "../../model/form";
import { OptionField } from "../../ui/field";
import type { Draft } from "./draft";
import { emptyWord } from "./options";

interface OptionProps {
  draft: Draft;
  root: JsonSchema;
  path: string;
  label: string;
  /** In a row of a table whose head explains it. */
  isCompact?: boolean;
}

/** The field of one option, filled from the draft. */
export function Option({ draft, root, path, label, isCompact = false }: OptionProps) {
  const field = fieldAt(root, path);
  if (field === null) return null;
  return (
    <OptionField
      field={field}
      label={label}
      isCompact={isCompact}
      emptyWord={emptyWord(path)}
      value={draft.valueOf(path)}
      preset={draft.presetValueOf(path)}
      errors={draft.errors.value.get(path) ?? []}
      onChange={(value) => draft.set(path, value)}
      onReset={() => draft.reset(path)}
    />
  );
}
