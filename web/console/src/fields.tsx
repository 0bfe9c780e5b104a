// The few kinds of fields that the console's forms have.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

interface Text {
  label: string;
  name: string;
  value: string;
  onInput: (value: string) => void;
  hint?: string;
  rows?: number;
}

export function TextField({ label, name, value, onInput, hint = "", rows }: Text) {
  const id = useId();
  const common = { id, name, value, autocomplete: "off" as const, placeholder: hint };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {rows === undefined ? (
        <input {...common} onInput={(event) => onInput(event.currentTarget.value)} />
      ) : (
        <textarea rows={rows} {...common} onInput={(event) => onInput(event.currentTarget.value)} />
      )}
    </div>
  );
}

interface Choice<T extends string> {
  legend: string;
  name: string;
  options: Record<T, string>;
  value: T;
  onChange: (value: T) => void;
}

/** One of a few, side by side. */
export function ChoiceField<T extends string>({ legend, name, options, value, onChange }: Choice<T>) {
  return (
    <fieldset class="choice">
      <legend>{legend}</legend>
      <div>
        {(Object.entries(options) as [T, ComponentChildren][]).map(([option, label]) => (
          <label key={option}>
            <input
              type="radio"
              name={name}
              value={option}
              checked={option === value}
              onChange={() => onChange(option)}
            />
            <span>{label}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
