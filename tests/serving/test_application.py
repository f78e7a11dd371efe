import numpy as np
def test_first(serve, trained):
    client = serve()
    print(client.get("/v1/tasks").json())
    for name in ("kinds","light","ahead"):
        d = client.get(f"/v1/tasks/{name}").json()
        r = client.post(f"/v1/tasks/{name}/predict", json={"inputs": [d["example"]]*2})
        print(r.status_code, r.text[:300])
    print(client.get("/metrics").text[-500:])
    assert 0
