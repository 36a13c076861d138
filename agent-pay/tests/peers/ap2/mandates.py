"""Mints and verifies payment mandates for tests/ap2/peer.rs: with the packages sd-jwt and jwcrypto
(mint, verify), or with the SDK of the specification's repository (sdk-mint, sdk-verify)."""

import base64
import hashlib
import json
import sys
import time

from cryptography.hazmat.primitives.asymmetric import ec
from jwcrypto.jwk import JWK
from sd_jwt.common import SDObj
from sd_jwt.issuer import SDJWTIssuer
from sd_jwt.verifier import SDJWTVerifier

NOON = 1795608000  # as in tests/common


def key(seed, kid=None):
    """The keys of tests/ap2/minting.rs: a scalar of one byte, repeated."""
    private = ec.derive_private_key(int.from_bytes(bytes([seed]) * 32, "big"), ec.SECP256R1())
    jwk = json.loads(JWK.from_pyca(private).export())
    jwk.pop("kid", None)
    return JWK(**jwk, **({"kid": kid} if kid else {}))


def public(jwk):
    exported = json.loads(jwk.export_public())
    return {name: exported[name] for name in ("kty", "crv", "x", "y")}


USER, AGENT = key(1, "user-1"), key(2)
TEA = {"id": "shop:tea", "name": "Tea"}


def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def issue(jwk, mandate, header, claims):
    issuer = SDJWTIssuer(
        user_claims={"delegate_payload": [SDObj(mandate)], **claims},
        issuer_key=jwk,
        sign_alg="ES256",
        extra_header_parameters=header,
    )
    return issuer.sd_jwt_issuance


def mint():
    now = int(time.time())
    mandate = {
        "vct": "mandate.payment.open.1",
        "constraints": [
            {"type": "payment.reference", "conditional_transaction_id": "open-1"},
            {"type": "payment.amount_range", "currency": "USD", "max": 1999},
            {"type": "payment.budget", "currency": "USD", "max": 19.99},
            {"type": "payment.allowed_payees", "allowed": [SDObj(TEA)]},
        ],
        "cnf": {"jwk": public(AGENT)},
        "iat": now,
        "exp": now + 600,
    }
    root = issue(USER, mandate, {"kid": "user-1"}, {})
    payment = {
        "vct": "mandate.payment.1",
        "transaction_id": "tx-1",
        "payee": TEA,
        "payment_amount": {"amount": 1999, "currency": "USD"},
        "payment_instrument": {"id": "card-1", "type": "card"},
    }
    bound = {"iat": now, "aud": "shop", "nonce": "n2", "sd_hash": digest(root)}
    last = issue(AGENT, payment, {"typ": "kb+sd-jwt"}, bound)
    print(json.dumps({"now": now, "chain": root[:-1] + "~~" + last}))


def verify(chain):
    first, last = chain.split("~~")
    read = []
    for token, jwk in ((first + "~", USER), (last, AGENT)):
        verifier = SDJWTVerifier(token, lambda _issuer, _header, jwk=jwk: jwk)
        payload = verifier.get_verified_payload()
        read.append(payload["delegate_payload"][0])
    assert payload["sd_hash"] == digest(first + "~")
    assert payload["aud"] == "shop" and payload["nonce"] == "n2"
    print(json.dumps(read))


def sdk_mint():
    from ap2.sdk.generated import open_payment_mandate as open_
    from ap2.sdk.generated.payment_mandate import PaymentMandate
    from ap2.sdk.generated.types.amount import Amount
    from ap2.sdk.generated.types.merchant import Merchant
    from ap2.sdk.generated.types.payment_instrument import PaymentInstrument
    from ap2.sdk.mandate import MandateClient

    now = int(time.time())
    mandate = open_.OpenPaymentMandate(
        constraints=[
            open_.PaymentReference(conditional_transaction_id="open-1"),
            open_.AmountRange(currency="USD", max=1999),
            open_.Budget(currency="USD", max=19.99),
            open_.AllowedPayees(allowed=[Merchant(**TEA)]),
        ],
        cnf={"jwk": public(AGENT)},
        iat=now,
        exp=now + 600,
    )
    payment = PaymentMandate(
        transaction_id="tx-1",
        payee=Merchant(**TEA),
        payment_amount=Amount(amount=1999, currency="USD"),
        payment_instrument=PaymentInstrument(id="card-1", type="card"),
    )
    client = MandateClient()
    root = client.create([mandate], USER)
    chain = client.present(AGENT, root, [payment], aud="shop", nonce="n2")
    print(json.dumps({"now": now, "chain": chain}))


def sdk_verify(chain):
    from ap2.sdk.mandate import MandateClient

    read = MandateClient().verify(
        chain,
        lambda _token: USER,
        expected_aud="shop",
        expected_nonce="n2",
        current_time=NOON,
    )
    print(json.dumps(read))


if __name__ == "__main__":
    programs = {"mint": mint, "verify": verify, "sdk-mint": sdk_mint, "sdk-verify": sdk_verify}
    programs[sys.argv[1]](*sys.argv[2:])
