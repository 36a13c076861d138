"""The official Python client. Each line of input is `{url, token}`: it pays once and answers by a line."""

import base64
import json
import sys

from eth_account import Account
from x402 import SpendControlAsset, SpendControls, x402ClientSync
from x402.http.clients import x402_requests
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import ExactEvmScheme

# A public test key of anvil, never for money.
KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"

for line in sys.stdin:
    asked = json.loads(line)
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmScheme(signer=EthAccountSigner(Account.from_key(KEY))))
    allowed = SpendControlAsset(network="eip155:84532", asset=asked["token"], max_amount_per_payment="5000")
    client.set_spend_controls(SpendControls(allowed_assets=[allowed]))
    answer = x402_requests(client).get(asked["url"])
    said = json.loads(base64.b64decode(answer.headers["payment-response"]))
    told = {"status": answer.status_code, "body": answer.text, "success": said["success"]}
    print(json.dumps(told | {"transaction": said["transaction"]}), flush=True)
