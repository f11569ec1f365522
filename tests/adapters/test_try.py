import torch, pytest, json, peft, transformers
from pathlib import Path
from adapted import *
from safetensors.torch import load_file
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("strategy", ["lora","adapter"])
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_x(tiny, tmp_path, name, strategy):
    model = grafted(tiny(name).folder)
    before = logits(model)
    state = {k:v.clone() for k,v in model.state_dict().items()}
    from graft import adapters
    learn(model, strategy)
    after = logits(model)
    print((after-before).abs().max())
    folder = model.save(tmp_path/"m")
    print(sorted(p.name for p in folder.iterdir()))
    again = load(folder, "float32")
    assert torch.equal(logits(again), after)
    if strategy=="lora":
        print({k:v for k,v in json.load(open(folder/"adapter_config.json")).items() if v})
        model.merge()
        print("merge", (logits(model)-after).abs().max())
        full = model.save(tmp_path/"full")
        assert torch.equal(logits(load(full,"float32")), logits(model))
        if name=="xlnet": return
        config = transformers.AutoConfig.from_pretrained(folder)
        cls = getattr(transformers, config.architectures[0])
        base = cls.from_pretrained(tiny(name).folder, config=config)
        p = peft.PeftModel.from_pretrained(base, folder).eval()
        with torch.inference_mode():
            theirs = torch.cat([p(input_ids=torch.tensor([s])).logits for s in SEQUENCES])
        print("peft", (theirs-after).abs().max())
        assert (theirs-after).abs().max()<1e-5
