"""The official SDK verifies what it is given and signs what it is told to.

Lines in: {"body", "secret", "header"} to verify, without a header to sign. Lines out: {"ok"} or {"header"}.
"""

import json
import sys

import stripe

for line in sys.stdin:
    asked = json.loads(line)
    if "header" in asked:
        try:
            event = stripe.Webhook.construct_event(asked["body"], asked["header"], asked["secret"])
            print(json.dumps({"ok": event["id"]}), flush=True)
        except stripe.SignatureVerificationError:
            print(json.dumps({"ok": None}), flush=True)
    else:
        header = stripe.WebhookSignature.generate_signature_header(asked["body"], asked["secret"])
        print(json.dumps({"header": header}), flush=True)
