"""Renders the chart for each request on standard input, as Helm would. Requests and answers are JSON.

A request is {name, namespace, values, check}. Its answer is {objects, notes, findings}, or {error} if Helm refuses the values. If `check`
is set, `findings` has what Helm's linter and the schemas of Kubernetes object to.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

VERSIONS = ["1.25", "1.37"]

# The objects that were checked, since most are the same for many values.
checked = set()


def findings(chart, request, objects):
    report = helm_python.lint(chart, values=request["values"], namespace=request["namespace"], strict=True)
    # That the chart has no icon is of severity 1.
    for message in report["messages"]:
        if message["severity"] > 1:
            yield f"lint: {message['path']}: {message['error']}"
    yield from report["errors"]
    for thing in objects:
        text = json.dumps(thing)
        # The kinds of other projects have no schema.
        if text in checked or thing["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        checked.add(text)
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{version}: {thing['kind']} {error.path}: {error.message}"


def answer(directory, chart, request):
    names = {key: request[key] for key in ("name", "namespace")}
    try:
        files = chart.render(request["values"], **names)
    except helm_python.HelmError as error:
        return {"error": str(error)}
    notes = "".join(text for name, text in files.items() if name.endswith("NOTES.txt"))
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    objects = [thing for text in texts for thing in yaml.safe_load_all(text) if thing]
    found = list(findings(directory, request, objects)) if request["check"] else []
    return {"objects": objects, "notes": notes, "findings": found}


def main():
    directory = sys.argv[1]
    chart = helm_python.Chart.load(directory)
    json.dump([answer(directory, chart, request) for request in json.load(sys.stdin)], sys.stdout)


main()
