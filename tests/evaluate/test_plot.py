import re
import xml.etree.ElementTree as ET

from journeyman.evaluate.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, loss_curve


def validation(step, valid, train=None):
    return {"step": step, "valid_loss": valid, "train_loss": train}


def test_the_curve_stays_in_its_frame_and_marks_the_lowest_validation_loss():
    svg = loss_curve([validation(10, 3.0, 4.0), validation(20, 2.0, 2.5), validation(40, 2.5, 1.0)])
    lines = {line.get("class"): line.get("points") for line in ET.fromstring(svg).iter("polyline")}
    points = {name: [tuple(map(float, p.split(","))) for p in text.split()] for name, text in lines.items()}
    assert points["valid"][0][0] == LEFT and points["valid"][-1][0] == WIDTH - RIGHT
    assert points["train"][0][1] == TOP and points["train"][-1][1] == HEIGHT - BOTTOM
    circle = next(ET.fromstring(svg).iter("circle"))
    assert (float(circle.get("cx")), float(circle.get("cy"))) == points["valid"][1]
    assert "lowest 2.000 at step 20" in svg


def test_a_course_of_one_validation_or_of_equal_losses_is_no_crash():
    assert loss_curve([]) == loss_curve([validation(1, 2.0)]) == ""
    assert not re.search("nan|inf", loss_curve([validation(1, 2.0), validation(2, 2.0)]))
