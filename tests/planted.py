"""Made-up identifiers of many kinds and spellings, and texts to plant them in. All are invalid, reserved or published as examples."""

from __future__ import annotations

from controller.core.shadow.recognisers import Kind

IDENTIFIERS: dict[Kind, tuple[str, ...]] = {
    Kind.EMAIL: (
        "john.doe@example.com",
        "j@example.org",
        "maria+orders@mail.example.co.uk",
        "Anna_Schmidt@Example.DE",
        "first.last@sub.domain.example.net",
        "user%dept@example.com",
        "o.connor-smith@example.ie",
        "12345@example.com",
        "jürgen@example.de",
        "info@münchen.example.de",
        "a.b.c.d@xn--bcher-kva.example",
        "support@example.travel",
        "UPPER@EXAMPLE.COM",
        "x_y-z@a-b-c.example.io",
    ),
    Kind.PHONE: (
        "+1 415 555 2671",
        "(415) 555-2671",
        "415-555-2671",
        "415.555.2671",
        "1-800-555-0199",
        "+14155552671",
        "+44 20 7946 0958",
        "020 7946 0958",
        "+49 (0)30 901820",
        "030 / 90182000",
        "+33 1 23 45 67 89",
        "06 12 34 56 78",
        "+91 98765 43210",
        "+81-3-1234-5678",
        "+353 1 234 5678",
        "+61 2 5550 1234",
    ),
    Kind.CARD: (
        "4111111111111111",
        "4111 1111 1111 1111",
        "4012-8888-8888-1881",
        "4222222222222",
        "5555 5555 5555 4444",
        "5105105105105100",
        "2223003122003222",
        "378282246310005",
        "3714 496353 98431",
        "6011 1111 1111 1117",
        "3056 9309 0259 04",
        "3566002020360505",
        "6200000000000005",
    ),
    Kind.IBAN: (
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "GB82 WEST 1234 5698 7654 32",
        "FR1420041010050500013M02606",
        "NL91ABNA0417164300",
        "ES91 2100 0418 4502 0005 1332",
        "IT60X0542811101000000123456",
        "BE68 5390 0754 7034",
        "CH93 0076 2011 6238 5295 7",
        "AT611904300234573201",
        "PL61 1090 1014 0000 0712 1981 2874",
        "SE4550000000058398257466",
        "NO9386011117947",
        "ie29aibk93115212345678",
    ),
    Kind.IP: (
        "203.0.113.7",
        "198.51.100.255",
        "192.0.2.1",
        "10.1.2.3",
        "172.16.254.1",
        "8.8.4.4",
        "2001:db8::8a2e:370:7334",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "fe80::1ff:fe23:4567:890a",
        "2001:db8:1::ab9:c0a8:102",
        "::ffff:192.0.2.128",
        "FD12:3456:789A:1::1",
    ),
    Kind.NATIONAL_ID: (
        "219-09-9999",
        "078-05-1120",
        "123-45-6789",
        "457 55 5462",
        "665-12-3456",
        "AB 12 34 56 C",
        "AA123456A",
        "QQ 12 34 56 A".replace("QQ", "JR"),
        "12345678Z",
        "00000001R",
        "X1234567L",
        "Y0000000Z",
    ),
    Kind.API_KEY: (
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAY34FZKBOKMUTVV7A",
        "sk-proj-" + "a1B2c3D4" * 6,
        "sk-ant-api03-" + "Zx9_" * 8,
        "ghp_" + "0aB1cD2e" * 4 + "F3gH",
        "github_pat_" + "11AAAAAAA0" * 3,
        "glpat-" + "x7Yz" * 5,
        "xoxb-" + "123456789012-abcdefABCDEF",
        "AIza" + "SyA1b2C3d4E5f6G7h8I9j0KlMnOpQrStUvW",
        "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "hf_" + "AbCdEfGh" * 4,
        "npm_" + "a1B2c3" * 6,
        "SG." + "abcdefghijklmnopqrstuv" + "." + "w" * 43,
    ),
    Kind.JWT: tuple(
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI{number}IiwibmFtZSI6IkpvaG4ifQ.{signature}"
        for number, signature in (
            ("xMjM0NTY3ODkw", "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
            ("yMzQ1Njc4OTAx", "SflKxwRJSMeKKF2QT4fwpMeJf36POk6y"),
            ("zNDU2Nzg5MDEy", "TJVA95OrM7E2cBab30RMHrHDcEfxjoYZ"),
            ("0NTY3ODkwMTIz", "4pcPyMD09olPSyXnrXCjTwXyr4BsezdI"),
        )
    ),
    Kind.PRIVATE_KEY: tuple(
        f"-----BEGIN {kind}PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG{body}\nAoGBAKj34GkxFhD90vcNLY\n-----END {kind}PRIVATE KEY-----"
        for kind, body in (
            ("", "9w0BAQEFAASCBKcw"),
            ("RSA ", "0B3NzaC1yc2EAAAA"),
            ("EC ", "4B8cDxTUfSyxoAoG"),
            ("OPENSSH ", "b3BlbnNzaC1rZXkt"),
        )
    ),
    Kind.SECRET: (
        "mF_9.B5f-4.1JqM-Zx81",
        "YWxhZGRpbjpvcGVuc2VzYW1lMTIz",
        "hunter2-hunter2",
        "Tr0ub4dor&3x".replace("&", "!"),
        "c0rrecth0rse",
        "s3cr3t-with+chars==",
    ),
}

SAID = {
    Kind.SECRET: (
        "curl -H 'Authorization: Bearer {}' https://api.example.com/",
        "Authorization: Basic {}",
        "the password is {} and nobody knows",
        "export API_KEY={}",
        "client_secret: {}",
        "postgres://shop:{}@db.example.com/orders",
    ),
}
"""A secret is known by what is said about it; one way of saying it for each."""


def sentences(kind: Kind) -> list[tuple[str, str]]:
    """Each identifier of the kind, and a sentence with it."""
    said = SAID.get(kind, ("My data is {}, please check it.",))
    return [(value, said[i % len(said)].format(value)) for i, value in enumerate(IDENTIFIERS[kind])]


ALL = [(kind, value, sentence) for kind in IDENTIFIERS for value, sentence in sentences(kind)]
