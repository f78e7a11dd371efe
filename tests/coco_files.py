"""A COCO file of two pictures."""

CONTENT = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 60, "height": 40},
        {"id": 9, "file_name": "b.png", "width": 60, "height": 40},
    ],
    "categories": [{"id": 3, "name": "cell"}, {"id": 5, "name": "disc"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 10, 20]},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [30, 5, 8, 8.5], "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1},
    ],
}
