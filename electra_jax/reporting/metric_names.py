"""Names, meanings and number formats of the metrics of fine-tuning."""

import math

_METRICS = {
    "score": ("Score", "The mean of the tasks' own metrics."),
    "accuracy": ("Accuracy", "The share that is right."),
    "f1": ("F1", "The harmonic mean of precision and recall; for answers, of the words they share with a right one."),
    "macro_f1": ("Macro F1", "F1 of each class by itself, then their mean: rare classes weigh as much as common ones."),
    "micro_f1": ("Micro F1", "F1 over all decisions together."),
    "subset_accuracy": ("Subset accuracy", "The share of examples all of whose labels are right, and none too many."),
    "matthews": ("Matthews correlation", "From -1 to 1; 0 is no better than guessing, however rare a class is."),
    "pearson": ("Pearson correlation", "How well a straight line leads from predictions to grades; 1 is best."),
    "spearman": ("Spearman correlation", "How well predictions are ordered as the grades are; 1 is best."),
    "mse": ("Mean squared error", "Less is better."),
    "exact": ("Exact match", "The share of answers that are a right one to the letter, but for articles and signs."),
    "best_exact": ("Best exact match", "With the threshold for having no answer that suits these questions best."),
    "best_f1": ("Best F1", "With the threshold for having no answer that suits these questions best."),
    "has_answer_exact": ("Exact match, answerable", "Of the questions that have an answer."),
    "has_answer_f1": ("F1, answerable", "Of the questions that have an answer."),
    "no_answer_exact": ("Exact match, unanswerable", "Of the questions that have none: the share left unanswered."),
    "no_answer_f1": ("F1, unanswerable", "Of the questions that have none: the share left unanswered."),
    "span_f1": ("Span F1", "F1 over whole spans: a span counts where both its ends and its type are right."),
    "span_precision": ("Span precision", "Of the spans that were predicted, the share that is right."),
    "span_recall": ("Span recall", "Of the spans in the text, the share that was found."),
    "loss": ("Loss", "What training minimises, in nats for classes and tags; large where a model is sure and wrong."),
}


def words(name: str) -> str:
    """A metric's display name: "span_f1" is "Span F1"; of a task, "rte/accuracy" is "rte · Accuracy"."""
    task, slash, metric = name.rpartition("/")
    title = _METRICS.get(metric, (metric.replace("_", " "), ""))[0]
    return f"{task} · {title}" if slash else title


def meaning(name: str) -> str:
    """One sentence on a metric; empty for one that is not known."""
    return _METRICS.get(name.rpartition("/")[2], ("", ""))[1]


def value(score: float, digits: int = 4) -> str:
    """A score as text; scores of ten and more are percentages or errors, and have fewer digits after the point."""
    if not math.isfinite(score):
        return "—"
    return f"{score:.{digits if abs(score) < 10 else max(digits - 2, 0)}f}"
