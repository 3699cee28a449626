import { fieldAt, type JsonSchema } from "../../model/form";
import { OptionField } from "../../ui/field";
import type { Draft } from "./draft";

interface OptionProps {
  draft: Draft;
  root: JsonSchema;
  path: string;
  label: string;
}

/** The field of one option, filled from the draft. */
export function Option({ draft, root, path, label }: OptionProps) {
  const field = fieldAt(root, path);
  if (field === null) return null;
  return (
    <OptionField
      field={field}
      label={label}
      value={draft.valueOf(path)}
      preset={draft.presetValueOf(path)}
      errors={draft.errors.value.get(path) ?? []}
      onChange={(value) => draft.set(path, value)}
      onReset={() => draft.reset(path)}
    />
  );
}
